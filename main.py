"""The entry point in a checkout: `python main.py COMMAND` is what `labelbridge COMMAND` is once installed."""

import sys

from labelbridge.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
