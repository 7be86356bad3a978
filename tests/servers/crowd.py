"""The users of a load; the example apps know two."""

CROWD: dict[str, tuple[str, list[str]]] = {f"user{number}": ("secret", []) for number in range(100)}
