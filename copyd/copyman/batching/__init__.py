"""A receiver that keeps refused rows out without losing the good ones."""

from copyd.copyman.batching.receiver import BatchReceiver
from copyd.copyman.batching.refusal import Refusal, Reject

__all__ = [
    "BatchReceiver",
    "Refusal",
    "Reject",
]
