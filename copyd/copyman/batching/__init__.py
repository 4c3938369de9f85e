"""A receiver for COPY that rejects bad rows and loads all others."""

from copyd.copyman.batching.isolation import Found, Isolation, Span
from copyd.copyman.batching.receiver import BatchReceiver
from copyd.copyman.batching.refusal import Refusal, Reject, is_about_a_row
