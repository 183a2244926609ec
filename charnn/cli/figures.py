"""Words about the figures of a model."""


def measured_on(whole: bool, records: bool) -> str:
    """Return on which text, and how, the validation loss of a model was measured."""
    part = "the whole validation text" if whole else "a sample of the validation text"
    return f"on {part}" if records else f"on {part}, read in parallel lanes"
