"""``python -m copyd``."""

from copyd.cli.main import main

if __name__ == "__main__":
    main()
