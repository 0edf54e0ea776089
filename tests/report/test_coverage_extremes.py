"""Which masks cover least and most."""

from stages.report.coverage import extremes


def row(token: str, share: float, scene: str, camera: str = "CAM_FRONT") -> dict[str, object]:
    return {"token": token, "foreground_share": share, "scene": scene, "camera": camera}


def test_extremes_come_first_and_a_camera_of_a_scene_once() -> None:
    rows = [
        row("a", 0.1, "1"),
        row("b", 0.2, "1"),
        row("c", 0.5, "2"),
        row("d", 0.9, "3"),
        row("e", 0.05, "3", "CAM_BACK"),
    ]
    least, most = extremes(rows, 3)
    assert [r["token"] for r in least] == ["e", "a", "c"]
    assert [r["token"] for r in most] == ["d", "c", "b"]


def test_equal_shares_stand_in_the_order_of_their_tokens() -> None:
    rows = [row("b", 0.5, "2"), row("a", 0.5, "1")]
    assert [[r["token"] for r in part] for part in extremes(rows, 2)] == [["a", "b"], ["a", "b"]]
