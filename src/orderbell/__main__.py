"""`python -m orderbell` is the same as the command `orderbell`."""

from orderbell.cli import main

if __name__ == "__main__":
    main()
