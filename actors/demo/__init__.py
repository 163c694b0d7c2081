"""The demo corpus: talking faces made offline, whose lip motion is known.

``voice`` says syllables, ``face`` moves a portrait to them, ``render`` writes both as a video.
"""
