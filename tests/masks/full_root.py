"""A nuScenes root of the paper's size: 1,004 scenes of 40 key frames of six cameras, 240,960 images, all one file.

The tables are whole and the devkit reads them unmodified; images are 64 x 36, so that masks are small.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synthetic_root import CASE, VERSION, copy_root

SCENES, VAL_SCENES, KEY_FRAMES, OBJECTS = 1004, 150, 40, 3
SIZE_PX = (64, 36)
Tables = dict[str, list[dict[str, Any]]]


def write_root(folder: Path, scenes: int = SCENES, val_scenes: int = VAL_SCENES) -> int:
    """Write the root with splits `full_train` and `full_val`; returns the number of images."""
    copy_root(folder)
    small = {path.stem: json.loads(path.read_text()) for path in (CASE / VERSION).glob("*.json")}
    image = folder / next(r["filename"] for r in small["sample_data"] if r["filename"].endswith("jpg"))
    tables: Tables = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "instance")}
    tables |= {"sample_annotation": [], "calibrated_sensor": []}
    sensors = {r["token"]: r["channel"] for r in small["sensor"]}
    rig = {sensors[r["sensor_token"]]: r for r in small["calibrated_sensor"]}
    for channel, record in rig.items():
        tables["calibrated_sensor"].append({**record, "token": channel, "camera_intrinsic": _lens(record)})
    for number in range(scenes):
        _add_scene(tables, number, list(rig), small, str(image.relative_to(folder)))
    for name, records in tables.items():
        (folder / VERSION / f"{name}.json").write_text(json.dumps(records))
    names = [record["name"] for record in tables["scene"]]
    splits = {"full_train": names[: scenes - val_scenes], "full_val": names[scenes - val_scenes :]}
    (folder / VERSION / "splits.json").write_text(json.dumps(splits))
    return scenes * KEY_FRAMES * (len(rig) - 1)


def _lens(record: dict[str, Any]) -> list[list[float]]:
    share = SIZE_PX[0] / 160
    return [
        [value * (share if row < 2 else 1) for value in line] for row, line in enumerate(record["camera_intrinsic"])
    ]


def _add_scene(tables: Tables, number: int, channels: list[str], small: Tables, image: str) -> None:
    scene = f"{number:08x}"
    samples = [f"{scene}{step:04x}" for step in range(KEY_FRAMES)]
    tables["scene"].append(
        {
            **small["scene"][0], "token": scene, "name": f"scene-{number + 1:04d}", "nbr_samples": KEY_FRAMES,
            "first_sample_token": samples[0], "last_sample_token": samples[-1],
        }
    )  # fmt: skip
    links = [dict(zip(("prev", "next"), pair, strict=True)) for pair in _neighbours(samples)]
    poses = small["ego_pose"]
    for step, token in enumerate(samples):
        time = {"timestamp": 1_600_000_000_000_000 + (number * 100 + step) * 500_000}
        tables["sample"].append({"token": token, "scene_token": scene, **time, **links[step]})
        pose = poses[(number * 7 + step) % len(poses)]
        tables["ego_pose"].append({**pose, "token": token, **time})
        for channel in channels:
            size = (0, 0) if channel == "LIDAR_TOP" else SIZE_PX
            tables["sample_data"].append(
                {
                    "token": f"{token}{channel}", "sample_token": token, "ego_pose_token": token, **time,
                    "calibrated_sensor_token": channel, "fileformat": "jpg", "is_key_frame": True, "width": size[0],
                    "height": size[1], "filename": image, "prev": "", "next": "",
                }
            )  # fmt: skip
    _add_objects(tables, scene, samples, links, small, number)


def _add_objects(
    tables: Tables, scene: str, samples: list[str], links: list[dict[str, str]], small: Tables, number: int
) -> None:
    """Cars of the small root, each at the places it has there, from another moment on in each scene."""
    given = small["sample_annotation"]
    for thing in range(OBJECTS):
        name = f"{scene}i{thing}"
        tables["instance"].append(
            {
                **small["instance"][0], "token": name, "nbr_annotations": len(samples),
                "first_annotation_token": f"{samples[0]}i{thing}", "last_annotation_token": f"{samples[-1]}i{thing}",
            }
        )  # fmt: skip
        for step, token in enumerate(samples):
            near = {key: other and f"{other}i{thing}" for key, other in links[step].items()}
            about = {"token": f"{token}i{thing}", "sample_token": token, "instance_token": name}
            tables["sample_annotation"].append({**given[(number + thing * 14 + step) % len(given)], **about, **near})


def _neighbours(names: list[str]) -> Iterator[tuple[str, str]]:
    return zip(["", *names[:-1]], [*names[1:], ""], strict=True)
