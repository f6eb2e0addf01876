"""``python -m vitjax`` is the command ``vitjax``."""

from vitjax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
