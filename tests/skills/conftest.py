from tests.kept_programs import kept_programs  # noqa: F401
