"""The images' recipes read, not built: no secret and no address in a layer, every package by its hash, never root."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra/docker"
TEXT = (DOCKER / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """Keyword and words, lines that go on joined."""
    code = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", code)
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def targets() -> dict[str, list[tuple[str, str]]]:
    """Stage by stage, without the FROM."""
    found: dict[str, list[tuple[str, str]]] = {}
    for keyword, words in instructions():
        if keyword == "FROM":
            name = words.split()[-1]
            found[name] = []
        else:
            found[name].append((keyword, words))
    return found


def test_each_image_of_compose_is_a_target_and_ends_as_a_user_that_is_not_root() -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"].values()
    built = {one["build"]["target"]: one["user"] for one in services if "build" in one}
    assert {*built} == {"mlflow", "prefect", "worker", "store"}
    for name, user in built.items():
        assert targets()[name][-1] == ("USER", user)


def test_no_argument_and_no_setting_of_an_image_is_a_secret() -> None:
    for keyword, words in instructions():
        assert keyword != "ARG", words
        if keyword == "ENV":
            assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY|AUTH|INDEX", words)


def test_every_install_of_a_package_asks_for_hashes() -> None:
    commands = [command for _, words in instructions() for command in words.split("&&") if "pip install" in command]
    assert len(commands) == 4
    for command in commands:
        assert "--require-hashes" in command
        assert "--no-deps" in command or "--constraint requirements.lock" in command


def test_a_private_index_is_mounted_and_never_copied() -> None:
    mounted = [words for keyword, words in instructions() if keyword == "RUN" and "pip install" in words]
    assert all(words.startswith("--mount=type=secret,id=") for words in mounted)
    copied = " ".join(words for keyword, words in instructions() if keyword in ("COPY", "ADD"))
    assert not re.search(r"pip\.conf|uv\.toml|\.env|\.netrc", copied)
    assert not [keyword for keyword, _ in instructions() if keyword == "ADD"]


def test_files_that_are_copied_are_there() -> None:
    for keyword, words in instructions():
        if keyword == "COPY" and "--from" not in words:
            *sources, _ = [word for word in words.split() if not word.startswith("--")]
            assert all((ROOT / source).is_file() for source in sources), words


def test_the_packages_that_the_servers_take_are_in_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for names in re.findall(r"grep -oE '\^\(([^)]+)\)==", TEXT):
        for name in names.split("|"):
            assert re.search(rf"^{re.escape(name)}==\S+ \\$", lock, re.MULTILINE), name
