"""``copyd verify``: whether destinations hold what the source holds."""

from copyd.transfers.verify.comparison import Compared, Comparison
from copyd.transfers.verify.verify import verify
