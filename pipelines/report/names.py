"""Short names of the tasks, where space is scarce."""

SHORT = {
    "lip_sync": "lip sync",
    "expression": "expression",
    "audio_quality": "audio",
    "cross_modal": "cross-modal",
    "overall": "overall",
}
