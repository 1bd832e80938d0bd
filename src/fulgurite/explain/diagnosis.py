"""What goes wrong, what it means and what to change: a line for each rule of the monitor, and for those of `plan` that
speak most often.

The rules' own sentences hold the numbers of a run. These are for a reader who has none yet; tests compare the ids and
the parameters with the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from fulgurite.language import UserMessage, message


@dataclass(frozen=True, slots=True)
class Symptom:
    """What is seen, what it means, what to change, and the rules that find it."""

    seen: UserMessage
    means: UserMessage
    change: UserMessage
    rules: tuple[str, ...]


BEFORE = (
    Symptom(
        message("The run would have too few steps."),
        message("Below 50 optimizer steps a model hardly changes; 200 are a good aim."),
        message("Raise `trainer.epochs` to 3, or lower `trainer.global_batch_size`; then find more examples."),
        ("steps.too-few",),
    ),
    Symptom(
        message("The learning rate is outside what is usual."),
        message(
            "The usual rate depends on stage, method and size of the model: LoRA wants about ten times the rate of "
            "full fine-tuning, and DPO on a large model a small part of it."
        ),
        message("Leave `optim.lr` empty, or take a value from its table."),
        ("rate.out-of-band", "rate.low-for-lora", "rate.high-for-preference"),
    ),
    Symptom(
        message("Out of memory (OOM)."),
        message("Weights, gradients, optimizer state and activations at their peak exceed what is free."),
        message(
            "In this order: `trainer.micro_batch_size`, `trainer.gradient_checkpointing`, a shorter `data.max_length`, "
            "`method=qlora`."
        ),
        ("memory.train", "device.nothing-fits"),
    ),
    Symptom(
        message("Examples are cut or dropped."),
        message("They are longer than `data.max_length`; a cut answer teaches the model not to stop."),
        message("Raise `data.max_length`, or keep `data.too_long` at drop."),
        ("data.too-long",),
    ),
    Symptom(
        message("Nothing is held out for validation."),
        message("Without it there is no best checkpoint, no early stopping and no sign of over-fitting."),
        message("Set `data.val_fraction` to 0.05, or give `data.val_path`."),
        ("data.no-validation",),
    ),
    Symptom(
        message("The model has no chat format, or another one."),
        message("It would learn, or be asked in, a format that it does not know."),
        message("Set `data.template` to the format that the model was made with."),
        ("template.unsure",),
    ),
    Symptom(
        message("Preference training starts from a base model."),
        message("A model that cannot hold a conversation yet has nothing to prefer."),
        message("Train with `stage=sft` first, and give that run's folder as `model.path`."),
        ("stage.no-sft",),
    ),
    Symptom(
        message("Alpha was set and the rank was changed."),
        message("The step of an adapter is multiplied by alpha / rank, so that the rate no longer fits."),
        message("Leave `method.alpha` empty: it follows `method.rank`."),
        ("lora.scale-pinned",),
    ),
    Symptom(
        message("Beta belongs to another loss."),
        message("The losses of the DPO family have different scales: SimPO's 2 is DPO's 0.1."),
        message("Leave `stage.beta` empty: it follows `stage.loss`."),
        ("loss.beta-band",),
    ),
    Symptom(
        message("The schedule is the same as a plainer one."),
        message("At these values its curve is that of another name."),
        message("Take the plainer name, or change the parameter that makes them differ."),
        ("scheduler.same-as",),
    ),
    Symptom(
        message("The precision does not fit the model or the rate."),
        message("Weights made in bf16 overflow in fp16; in pure bf16 small steps are rounded away."),
        message("Take `precision=bf16`; with `precision=pure_bf16` set `precision.rounding` to stochastic."),
        ("precision.born-bf16", "precision.pure-bf16"),
    ),
)
"""Findings of `fulgurite plan` before a run."""

DURING = (
    Symptom(
        message("The loss does not fall."),
        message("The steps are too small, or the labels are not what you think they are."),
        message(
            "Raise `optim.lr` two to five times. If the weights do move, look at `data.mask` and at the chat format."
        ),
        ("plateau", "adapter-moves"),
    ),
    Symptom(
        message("The loss jumps up and stays there, or climbs."),
        message("A few steps were too large."),
        message("Lower `optim.lr` two to five times, or lengthen `scheduler.warmup_ratio`."),
        ("spike", "diverged", "update-high"),
    ),
    Symptom(
        message("The loss is as high as that of a random model."),
        message("What the model knew is lost; the run cannot recover."),
        message("Lower `optim.lr` by ten and begin again."),
        ("above-chance",),
    ),
    Symptom(
        message("The first loss is not what an untrained adapter gives."),
        message("The adapter, the reference or the head did not begin as it should."),
        message("Look at `method.adapter_path` and `model.path`: another model was loaded than you think."),
        ("step-zero",),
    ),
    Symptom(
        message("The loss is 0, or a step has no label."),
        message("Everything is masked or cut: there is nothing to learn from."),
        message("Look at `data.mask`, `data.max_length` and the columns of the file."),
        ("loss-zero", "labels-empty"),
    ),
    Symptom(
        message("The validation loss rises while the training loss falls."),
        message("The model memorises its examples."),
        message("Take the best checkpoint; next time fewer `trainer.epochs`. Let the samples decide."),
        ("overfit",),
    ),
    Symptom(
        message("A number is not finite."),
        message("Weights, activations or gradients overflow."),
        message("Take `precision=fp32` or bf16, and lower `optim.lr`."),
        ("val-not-finite",),
    ),
    Symptom(
        message("The gradient norm is above 100."),
        message("Single examples or a high rate make steps that clipping has to hold."),
        message("Lower `optim.lr`, and look at the longest and strangest examples."),
        ("norm-high",),
    ),
    Symptom(
        message("Most steps are clipped."),
        message("Under Adam a constant scale changes nothing; under SGD it lowers the rate."),
        message("With AdamW leave it. With `optim=sgd` raise `trainer.max_grad_norm`."),
        ("clip-share",),
    ),
    Symptom(
        message("Weights stay as they were in pure bf16."),
        message("A step smaller than 1/512 of a weight is rounded away."),
        message("Set `precision.rounding` to stochastic or kahan, or take `precision=bf16`."),
        ("rounded-away",),
    ),
    Symptom(
        message("Answers do not stop."),
        message("The end token was not learned: answers were cut, or the chat format has no end."),
        message("Raise `data.max_length`, set `data.template`, and look at the end of an example."),
        ("samples-endless",),
    ),
    Symptom(
        message("Answers repeat themselves, or are all the same."),
        message("The rate is too high, or the examples are too alike."),
        message("Lower `optim.lr` and `trainer.epochs`; mix in other data with `data.weights`."),
        ("samples-repeat", "samples-collapse"),
    ),
    Symptom(
        message("Answers are as they were before."),
        message("The run was too short, or its steps were too small."),
        message("Take more steps first; then raise `optim.lr` two to five times."),
        ("before-after",),
    ),
    Symptom(
        message("Chosen answers become less likely in DPO."),
        message("Often this is how DPO learns; with worse samples the rate is too high."),
        message("Lower `optim.lr`, or set `stage.sft_weight` to 0.2 and more."),
        ("dpo-falls",),
    ),
    Symptom(
        message("The rejected answer is preferred."),
        message("The columns may be exchanged, or the pairs contradict what the model knows."),
        message("Look at `data.columns`; then at ten pairs by eye."),
        ("dpo-wrong",),
    ),
    Symptom(
        message("A reward model guesses."),
        message("Its accuracy stays at one half: there are too few pairs, or length alone decides them."),
        message("Find more pairs, or raise `optim.lr` two to five times."),
        ("rm-stuck",),
    ),
    Symptom(
        message("All answers of a prompt get the same reward."),
        message("In GRPO nothing can be learned from a group whose rewards are equal."),
        message("Raise `stage.num_generations`, take easier or harder prompts, or a reward with more than two values."),
        ("ties",),
    ),
    Symptom(
        message("The device waits for the data."),
        message("Reading the next batch takes longer than the step itself."),
        message("Set `trainer.num_workers` to 2 or 4."),
        ("data-waits",),
    ),
)
"""Findings of the monitor during a run, most frequent first."""
