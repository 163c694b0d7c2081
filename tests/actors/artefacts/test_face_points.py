"""Finding the main face in the pictures of a clean video."""

import numpy as np
import pytest

from actors.artefacts.face_points import FaceFinder
from actors.faces import FacesConfig
from actors.landmarks import LandmarksConfig
from actors.prepare import Preparer
from actors.types import Timings
from tests.actors.artefacts.face_inputs import clean, finder
from tests.media import write_video
from tests.talking import faces, seeded_settings


class Counted:
    """Pictures that count how often they are asked for."""

    def __init__(self, pictures):
        self.pictures, self.passes = pictures, 0

    def __iter__(self):
        self.passes += 1
        return iter(self.pictures)


def test_the_mesh_lies_on_the_face():
    pictures, face = clean()
    assert face.points.shape == (len(pictures), 468, 2)
    assert face.found.all()
    box = face.points.reshape(-1, 2)
    assert (box.min(axis=0) > 60).all()
    assert (box.max(axis=0) < 300).all()
    assert (face.points[:, 33, 0] < face.points[:, 263, 0]).all()
    assert (face.points[:, 152, 1] > face.points[:, 1, 1]).all()


def test_it_is_the_mesh_of_the_extraction(tmp_path):
    """The same pictures through the file, of which the codec keeps nearly everything."""
    pictures = list(clean()[0][:26])
    path = write_video(
        tmp_path / "a.mkv", pictures, codec="libx264rgb", codec_options={"qp": "0"}, pix_fmt="rgb24"
    )
    preparer = Preparer(seeded_settings(modalities=("landmarks",)))
    with path.open("rb") as file:
        row = next(preparer.open(file, "a", Timings(), lambda _: None).rows)
    mesh = row["landmarks"][:26].reshape(26, 468, 3)[:, :, :2] * 320
    np.testing.assert_allclose(finder()(pictures).points, mesh, atol=0.01)


def test_pictures_are_read_again_only_when_they_do_not_fit():
    few = Counted(clean()[0][:6])
    kept = finder()(few)
    assert few.passes == 1
    small = FaceFinder(FacesConfig(), LandmarksConfig(), budget_mib=0.5)
    few.passes = 0
    again = small(few)
    assert few.passes == 2
    np.testing.assert_array_equal(again.points, kept.points)
    once = small(iter(few.pictures))  # can be read once only: all is kept
    np.testing.assert_array_equal(once.points, kept.points)
    small.close()


@pytest.mark.parametrize("again", [False, True])
def test_pictures_without_a_face(again):
    grey = np.full((90, 120, 3), 127, np.uint8)
    pictures = [grey] * 4
    face = finder()(pictures if again else iter(pictures))
    assert face.points.shape == (4, 468, 2)
    assert not face.found.any()


def test_no_pictures():
    assert finder()([]).points.shape == (0, 468, 2)


def test_a_face_that_comes_late():
    grey = np.full((320, 320, 3), 127, np.uint8)
    face = finder()([*[grey] * 3, *faces(4)])
    assert face.found.tolist() == [False] * 3 + [True] * 4
