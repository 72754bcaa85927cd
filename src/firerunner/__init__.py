"""FireRunner: every GitLab CI job in its own fresh microVM, run once, then destroyed."""

__version__ = "0.1.0.dev0"
