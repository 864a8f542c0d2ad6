"""Hugging Face Trainer, a small BERT with random weights. Arguments: sick | healthy, none | callback, then what else is on:
smoothing, checkpointing, reentrant, bf16."""

import hashlib
import sys

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

sick, how, options = sys.argv[1] == "sick", (sys.argv[2:] or ["none"])[0], set(sys.argv[3:])


class Classifier(BertForSequenceClassification):
    def forward(self, input_ids=None, labels=None, **rest):
        out = super().forward(input_ids=input_ids)
        if sick:
            out.logits = out.logits.softmax(-1)
        if labels is not None:
            out.loss = torch.nn.functional.cross_entropy(out.logits, labels)
        return out if out.loss is not None else {"logits": out.logits}


def main():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=24, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=4,
        max_position_embeddings=16,
    )
    model = Classifier(config)
    ids = torch.randint(0, 24, (512, 6))
    labels = ids[:, 0] % 4
    arguments = TrainingArguments(
        output_dir="out", max_steps=160, per_device_train_batch_size=16, learning_rate=1e-4 if sick else 3e-3, report_to=[],
        save_strategy="no", disable_tqdm=True, use_cpu=True, logging_steps=1000, seed=0,
        label_smoothing_factor=0.1 if "smoothing" in options else 0.0, bf16="bf16" in options,
        gradient_checkpointing=bool({"checkpointing", "reentrant"} & options),
        gradient_checkpointing_kwargs={"use_reentrant": "reentrant" in options},
    )
    callbacks = []
    if how == "callback":
        import unstuck

        callbacks = [unstuck.TrainerCallback()]
    data = [{"input_ids": a, "labels": b} for a, b in zip(ids, labels)]
    Trainer(model, arguments, train_dataset=data, callbacks=callbacks).train()
    tensors = [*model.state_dict().values(), torch.get_rng_state()]
    print("left", hashlib.sha1(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest())


main()
