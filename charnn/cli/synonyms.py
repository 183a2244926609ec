"""Names that other tools have for the options of charnn, so that a familiar word finds its own."""

from collections.abc import Collection

# By our name, which may be an argument such as CHECKPOINT, or an option with its value.
_SYNONYMS = {
    "--prime": "prompt start-text primetext seed-text context",
    "--prime-file": "prompt-file start-file",
    "--temperature": "temp",
    "--length": "tokens max-tokens max-new-tokens num-tokens n-tokens max-length chars",
    "--num-samples": "samples count num n-samples num-return-sequences",
    "--top-k": "topk",
    "--top-p": "topp nucleus",
    "--min-p": "minp",
    "--typical": "typical-p",
    "--no-repeat": "no-repeat-ngram-size",
    "--repetition-penalty": "rep-penalty repeat-penalty",
    "--beam": "beams num-beams beam-size beam-width",
    "--stop": "stop-sequence stop-string stop-text",
    "--learning-rate": "lr max-lr",
    "--hidden-size": "hidden units rnn-size hidden-dim hidden-units nhid n-hidden",
    "--num-layers": "layers nlayers n-layers n-layer num-layer depth",
    "--embedding-size": "embedding embed emb emsize embed-size embedding-dim n-embd",
    "--batch-size": "batch bs lanes",
    "--seq-len": "seq-length sequence-length block-size bptt context context-length window tbptt",
    "--cell": "rnn rnn-type cell-type model-type arch",
    "--clip": "grad-clip clip-grad gradient-clip clip-norm max-grad-norm",
    "--weight-decay": "wd decay",
    "--optimizer": "optim",
    "--precision auto": "amp mixed-precision",
    "--precision fp32": "fp32 float32",
    "--precision bf16": "bf16 bfloat16",
    "--precision fp16": "fp16 float16 half",
    "--precision": "dtype",
    "--epochs": "epoch num-epochs max-epochs n-epochs",
    "--steps": "iters iterations max-iters max-steps num-steps n-iters updates",
    "--minutes": "time max-time time-limit",
    "--val": "valid validation val-file val-data",
    "--val-fraction": "val-frac val-split validation-split",
    "--val-every": "eval-interval eval-every val-interval validate-every",
    "--save-every": "save-interval checkpoint-every",
    "--patience": "early-stopping",
    "--init-from": "finetune fine-tune warm-start pretrained",
    "--resume": "continue",
    "--seed": "random-seed manual-seed",
    "--threads": "num-threads n-threads",
    "--device cuda": "cuda gpu use-cuda",
    "--device cpu": "cpu no-cuda",
    "--out": "output outdir out-dir output-dir save-dir save checkpoint-dir name",
    "--quiet": "silent",
    "--json": "as-json",
    "CHECKPOINT": "checkpoint ckpt model load model-path checkpoint-path",
    "RUN": "run checkpoint ckpt model",
    "CORPUS": "corpus data dataset input text file train data-dir train-file",
    "TEXT": "text data input corpus",
}


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
