"""Films of what a library's experts do: a skill's plan on a fresh world, drawn by the game, with what goes on written below."""
