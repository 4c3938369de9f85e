"""``python -m copyd``."""

from copyd.cli import main

if __name__ == "__main__":
    main()
