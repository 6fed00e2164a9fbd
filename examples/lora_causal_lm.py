"""Fine-tune LoRA adapters of a causal language model on the instructions that still matter.

Only answer tokens count, in the loss and in the score. Here with a tiny Llama from scratch, so that nothing is
downloaded; put a model of yours in its place. Run: python examples/lora_causal_lm.py [el2n|loss|grand]
"""

import sys
import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import DataCollatorForSeq2Seq, LlamaConfig, LlamaForCausalLM, TrainingArguments
from transformers import PreTrainedTokenizerFast as Fast

from dataprune import EL2N, CyclicScheduler, DynamicPruner, GraNd, Loss, PruningTrainer, TopK

# Four of five ask to repeat a number, which is soon learned; the fifth asks for the next one.
pairs = [(f"say {i % 4}", f"{i % 4}") if i % 5 else (f"next to {i % 9}", f"{i % 9 + 1}") for i in range(300)]
words = sorted({word for pair in pairs for text in pair for word in text.split()})
PAD, END = "<pad>", "<end>"
vocabulary = {word: i for i, word in enumerate([PAD, END, *words])}
tokenizer = Fast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary)))
tokenizer.pad_token = PAD
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()


def encode(instruction, answer):
    """Return input ids and labels; -100 leaves the instruction out of the loss and the score."""
    prompt = tokenizer(instruction)["input_ids"]
    target = [*tokenizer(answer)["input_ids"], vocabulary[END]]
    return {"input_ids": prompt + target, "labels": [-100] * len(prompt) + target}


dataset = Dataset.from_list([encode(*pair) for pair in pairs])
torch.manual_seed(0)
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
base = LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), **sizes))
model = get_peft_model(
    base, LoraConfig(task_type=TaskType.CAUSAL_LM, r=8, target_modules="all-linear", modules_to_save=["lm_head"])
)
model.print_trainable_parameters()

name = sys.argv[1] if len(sys.argv) > 1 else "el2n"
# EL2N and Loss come from the training pass; GraNd, of the adapters alone, from a pass over everything.
scorer = {"el2n": EL2N(reduction="mean"), "loss": Loss(), "grand": GraNd()}[name]
pruner = DynamicPruner(
    scorer,
    TopK(),
    CyclicScheduler(keep_fraction=0.4, n_warmup_epochs=1),
    refresh="full" if name == "grand" else "observed",
)
with tempfile.TemporaryDirectory() as folder:
    args = TrainingArguments(
        folder,
        num_train_epochs=5,
        per_device_train_batch_size=10,
        learning_rate=1e-2,
        save_strategy="no",
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
    )
    trainer = PruningTrainer(
        model=model,
        args=args,
        train_dataset=dataset,
        data_collator=DataCollatorForSeq2Seq(tokenizer),  # pads labels with -100
        pruner=pruner,
    )
    trainer.train()
print(pruner.history_)
hard = sum(pairs[i][0].startswith("next") for i in pruner.indices_)
print(f"{hard} of {len(pruner.indices_)} kept at the end ask for the next number, 60 of 300 do in all.")
