"""Names that other tools have for the settings of charnn, so that a familiar word finds its own."""

# By our name; in theirs a hyphen stands for an underscore too.
SYNONYMS = {
    "temperature": "temp",
    "length": "tokens max-tokens max-new-tokens num-tokens n-tokens max-length chars",
    "top_k": "topk",
    "top_p": "topp nucleus",
    "min_p": "minp",
    "typical": "typical-p",
    "no_repeat": "no-repeat-ngram-size",
    "repetition_penalty": "rep-penalty repeat-penalty",
    "learning_rate": "lr max-lr",
    "hidden_size": "hidden units rnn-size hidden-dim hidden-units nhid n-hidden",
    "num_layers": "layers nlayers n-layers n-layer num-layer depth",
    "embedding_size": "embedding embed emb emsize embed-size embedding-dim n-embd",
    "batch_size": "batch bs lanes",
    "seq_len": "seq-length sequence-length block-size bptt context context-length window tbptt",
    "cell": "rnn rnn-type cell-type model-type arch",
    "clip": "grad-clip clip-grad gradient-clip clip-norm max-grad-norm",
    "weight_decay": "wd decay",
    "optimizer": "optim",
    "precision": "dtype",
    "epochs": "epoch num-epochs max-epochs n-epochs",
    "steps": "iters iterations max-iters max-steps num-steps n-iters updates",
    "minutes": "time max-time time-limit",
    "val": "valid validation val-file val-data",
    "val_fraction": "val-frac val-split validation-split",
    "val_every": "eval-interval eval-every val-interval validate-every",
    "save_every": "save-interval checkpoint-every",
    "patience": "early-stopping",
    "init_from": "finetune fine-tune warm-start pretrained",
    "seed": "random-seed manual-seed",
    "threads": "num-threads n-threads",
}


def our_setting(word: str) -> str:
    """Return the setting that another tool calls `word`, or the word itself.

    >>> our_setting("lr"), our_setting("max_new_tokens"), our_setting("lenght")
    ('learning_rate', 'length', 'lenght')
    """
    known = word.lower().replace("_", "-")
    return next((ours for ours, theirs in SYNONYMS.items() if known in theirs.split()), word)
