"""The portrait that the demo animates, and where its features lie.

The picture is ``skimage.data.astronaut()``: Eileen Collins, photographed by NASA, public domain,
512 x 512, part of the scikit-image wheel. The table gives key points in pixels of that picture (x
to the right, y down, edges at integers), under their MediaPipe Face Mesh indices; it was measured
with Face Mesh, so rendering needs no face detector. The inner rim of the lips was drawn by hand:
the portrait smiles with visible teeth, and the rim must separate lips from teeth exactly.
"""

import numpy as np
from numpy.typing import NDArray

from actors.types import U8

F64 = NDArray[np.float64]
Points = dict[int, tuple[float, float]]

UPPER_OUTER: Points = {
    61: (201.1, 139.4), 185: (202.9, 138.6), 40: (206.2, 138.4), 39: (210.3, 138.8),
    37: (216.9, 139.4), 0: (223.5, 140.4), 267: (230.3, 140.2), 269: (237.1, 140.1),
    270: (241.5, 139.7), 409: (245.0, 140.1), 291: (246.9, 141.6),
}  # fmt: skip
LOWER_OUTER: Points = {
    146: (203.6, 143.6), 91: (206.8, 147.8), 181: (211.1, 151.8), 84: (216.4, 154.5),
    17: (222.8, 155.7), 314: (229.4, 155.2), 405: (235.2, 153.2), 321: (239.9, 149.7),
    375: (243.6, 145.9),
}  # fmt: skip
LEFT_UPPER_LID: Points = {
    33: (194.1, 101.3), 246: (195.0, 100.6), 161: (196.3, 99.6), 160: (198.6, 98.3),
    159: (202.4, 97.7), 158: (206.2, 98.3), 157: (209.9, 100.2), 173: (212.6, 102.8),
    133: (213.8, 104.3),
}  # fmt: skip
LEFT_LOWER_LID: Points = {
    7: (195.7, 102.6), 163: (197.6, 103.5), 144: (200.3, 104.4), 145: (204.1, 105.0),
    153: (207.7, 105.0), 154: (211.0, 104.7), 155: (213.0, 104.6),
}  # fmt: skip
RIGHT_UPPER_LID: Points = {
    362: (237.3, 105.5), 398: (238.7, 104.0), 384: (241.6, 101.7), 385: (245.5, 100.1),
    386: (249.4, 99.8), 387: (253.1, 100.7), 388: (255.3, 102.3), 466: (256.5, 103.4),
    263: (257.3, 104.3),
}  # fmt: skip
RIGHT_LOWER_LID: Points = {
    382: (238.1, 105.8), 381: (240.0, 106.1), 380: (243.4, 106.8), 374: (247.0, 107.1),
    373: (250.9, 106.9), 390: (253.6, 106.2), 249: (255.6, 105.4),
}  # fmt: skip
BROWS: Points = {
    70: (186.8, 91.3), 63: (190.9, 87.7), 105: (197.3, 86.2), 66: (205.8, 87.1),
    107: (215.7, 88.8), 336: (237.0, 89.5), 296: (247.1, 88.5), 334: (255.7, 88.4),
    293: (262.1, 90.6), 300: (265.7, 94.8),
}  # fmt: skip
NOSE: Points = {
    168: (225.7, 100.9), 6: (225.5, 106.6), 197: (225.2, 111.8), 195: (224.9, 116.4),
    1: (223.9, 131.9), 2: (223.8, 134.8), 98: (211.1, 130.5), 327: (236.9, 131.9),
}  # fmt: skip
CHEEKS: Points = {
    205: (195.0, 127.0), 425: (253.7, 130.0), 50: (189.9, 120.8), 280: (259.4, 124.3),
}  # fmt: skip
CHIN: Points = {18: (222.5, 159.6), 200: (222.3, 164.0), 199: (222.1, 169.3)}
OVAL: Points = {
    10: (227.3, 70.3), 338: (240.6, 71.1), 297: (251.8, 73.2), 332: (261.8, 77.3),
    284: (267.9, 83.3), 251: (271.1, 90.7), 389: (272.6, 98.2), 356: (272.6, 107.5),
    454: (271.2, 116.4), 323: (269.8, 125.4), 361: (267.9, 135.1), 288: (264.4, 145.2),
    397: (259.7, 153.4), 365: (254.6, 159.5), 379: (248.0, 165.1), 378: (242.6, 169.2),
    400: (236.8, 173.0), 377: (230.1, 175.5), 152: (221.5, 176.1), 148: (213.2, 174.7),
    176: (206.8, 171.5), 149: (201.7, 167.2), 150: (196.7, 162.5), 136: (190.8, 156.3),
    172: (186.3, 149.7), 58: (182.5, 141.1), 132: (180.1, 130.8), 93: (179.2, 120.9),
    234: (178.9, 111.8), 127: (178.5, 102.9), 162: (179.5, 93.7), 21: (181.9, 86.3),
    54: (185.9, 79.4), 103: (192.4, 74.1), 67: (202.8, 71.0), 109: (214.0, 69.9),
}  # fmt: skip
MEASURED: Points = (
    UPPER_OUTER | LOWER_OUTER | LEFT_UPPER_LID | LEFT_LOWER_LID | RIGHT_UPPER_LID
    | RIGHT_LOWER_LID | BROWS | NOSE | CHEEKS | CHIN | OVAL
)  # fmt: skip

# Inner rim of the lips from corner to corner (the corners are in the upper one).
UPPER_INNER = np.array([
    (203.0, 139.4), (205.0, 139.5), (207.7, 140.8), (210.6, 141.6), (214.8, 142.5), (219.3, 143.4),
    (224.4, 143.8), (230.2, 143.8), (234.4, 143.7), (237.5, 142.9), (240.2, 141.2), (242.3, 140.7),
    (244.6, 141.0),
])  # fmt: skip
LOWER_INNER = np.array([
    (205.0, 142.5), (207.4, 145.2), (210.8, 148.2), (214.7, 149.6), (219.3, 150.1), (224.4, 150.4),
    (230.1, 150.2), (233.1, 148.7), (235.4, 147.6), (238.4, 145.6), (241.4, 143.6),
])  # fmt: skip

MOUTH = np.array([223.9, 146.6])  # centre of the closed mouth
NECK = np.array([224.0, 190.0])  # the head turns about this point
HEAD = (
    np.array([227.0, 100.0]),
    np.array([80.0, 92.0]),
)  # ellipse around hair and chin: centre, radii
ORIGIN = np.array([122.0, 0.0])  # upper left corner of the square that is shown
SIZE = 208.0  # its side

_EYE_LINE = np.subtract(RIGHT_UPPER_LID[263], LEFT_UPPER_LID[33])
INTEROCULAR = float(np.hypot(*_EYE_LINE))  # distance of the outer eye corners, pixels
ACROSS = _EYE_LINE / INTEROCULAR  # unit vector along the eyes
DOWN = np.array([-ACROSS[1], ACROSS[0]])  # unit vector towards the chin


def load() -> U8:
    """Return the portrait, RGB [512, 512, 3].

    Raises:
        ModuleNotFoundError: scikit-image is not installed; the message says how to get it.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the demo corpus is animated from a portrait of scikit-image, which is not "
            "installed: pip install 'scikit-image>=0.25' (extra 'demo')"
        ) from error
    picture: U8 = np.asarray(data.astronaut(), dtype=np.uint8)
    return picture


def array(points: Points) -> F64:
    """Return the coordinates of a table in its order: [n, 2]."""
    return np.array(list(points.values()), dtype=np.float64)
