"""copyd keeps many PostgreSQL replicas fed from one source by scheduled COPY."""

__version__ = "0.1.0.dev0"
