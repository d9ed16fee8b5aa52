"""Pictures of the Craftax games: scaled once, and never loaded from half a file."""

import types

import pytest

from flowrl.envs.craftax.textures import load_textures, path_of


def game_module():
    """A stand-in for the game's module of constants: loads its file if there is one, else it writes one, in place."""
    module = types.ModuleType("craftax.craftax_classic.constants")
    module.scaled = 0

    def load_all_textures():
        try:
            with open(module.TEXTURE_CACHE_FILE, encoding="utf-8") as file:
                assert file.read() == "pictures"
        except FileNotFoundError:
            module.scaled += 1
            with open(module.TEXTURE_CACHE_FILE, "w", encoding="utf-8") as file:
                file.write("pict")
                if module.killed:
                    raise KeyboardInterrupt from None
                file.write("ures")

    module.load_all_textures, module.killed = load_all_textures, False
    return module


def test_pictures_are_scaled_once(tmp_path):
    first, second = game_module(), game_module()
    load_textures(first, tmp_path)
    load_textures(second, tmp_path)
    assert (first.scaled, second.scaled) == (1, 0)
    assert path_of(first, tmp_path).read_text() == "pictures"


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_the_next_one_loads(tmp_path):
    killed, following = game_module(), game_module()
    killed.killed = True
    with pytest.raises(KeyboardInterrupt):
        load_textures(killed, tmp_path)
    assert not path_of(killed, tmp_path).exists()
    load_textures(following, tmp_path)
    assert following.scaled == 1


def test_pictures_are_there_although_they_cannot_be_kept(tmp_path):
    (tmp_path / "textures").write_text("a file where the folder should be")
    module = game_module()
    load_textures(module, tmp_path)
    assert module.scaled == 1
