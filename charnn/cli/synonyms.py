"""Names that other tools have for the options of charnn: those of its settings, and others."""

from collections.abc import Collection

from charnn.synonyms import SYNONYMS

# By our name, which may be an argument such as CHECKPOINT, or an option with its value.
_SYNONYMS = {
    "--prime": "prompt start-text primetext seed-text context",
    "--prime-file": "prompt-file start-file",
    "--num-samples": "samples count num n-samples num-return-sequences",
    "--beam": "beams num-beams beam-size beam-width",
    "--stop": "stop-sequence stop-string stop-text",
    "--precision auto": "amp mixed-precision",
    "--precision fp32": "fp32 float32",
    "--precision bf16": "bf16 bfloat16",
    "--precision fp16": "fp16 float16 half",
    "--resume": "continue",
    "--device cuda": "cuda gpu use-cuda",
    "--device cpu": "cpu no-cuda",
    "--out": "output outdir out-dir output-dir save-dir save checkpoint-dir name",
    "--quiet": "silent",
    "--json": "as-json",
    "CHECKPOINT": "checkpoint ckpt model load model-path checkpoint-path",
    "RUN": "run checkpoint ckpt model",
    "CORPUS": "corpus data dataset input text file train data-dir train-file",
    "TEXT": "text data input corpus",
} | {f"--{name.replace('_', '-')}": theirs for name, theirs in SYNONYMS.items()}


def our_name(word: str, options: Collection[str], arguments: str) -> str:
    """Return what to type for an option of another tool, or "" where nothing is known.

    `options` are those of the command, and `arguments` its arguments as the usage line shows them.

        >>> our_name("--lr", ["--learning-rate"], "[CORPUS]...")
        '--learning-rate'
    """
    word = word.lstrip("-").lower().replace("_", "-")
    if f"--{word}" in options:
        return f"--{word}"
    if word == "overwrite":  # no option replaces a run; --force of `charnn train` is about memory
        return "--force" if "--force" in options and "--resume" not in options else "--out"
    for ours, theirs in _SYNONYMS.items():
        known = ours.split()[0] in options or (ours.isupper() and f"[{ours}]" in arguments)
        if known and word in theirs.split():
            return ours
    return ""
