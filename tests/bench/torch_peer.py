"""What PyTorch and transformers make of the models that gpu_bench wrote: one "KEY SECONDS" a line.

    torch_peer.py FOLDER [1B 8B]

Eager mode with scaled-dot-product attention, bf16, greedy; a key-value cache of its own for each agent, for it knows of no
shared prompts. Medians, after a warm-up.
"""
import statistics
import sys
import time

import torch
import transformers


def timed(work):
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


@torch.inference_mode()
def decode(model, agents, prompt, steps):
    """Seconds of one step of `agents` rows, each over a prompt of that many tokens."""
    ids = torch.randint(0, model.config.vocab_size, (1, prompt), device="cuda")
    out = model(ids, use_cache=True, logits_to_keep=1)
    cache = out.past_key_values
    if agents > 1:
        cache.batch_repeat_interleave(agents)
    token = out.logits[:, -1:].argmax(-1).repeat(agents, 1)
    times = []
    for _ in range(steps):
        def step():
            nonlocal token
            token = model(token, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1:].argmax(-1)
        times.append(timed(step))
    return statistics.median(times[steps // 4:])


@torch.inference_mode()
def prefill(model, prompt):
    ids = torch.randint(0, model.config.vocab_size, (1, prompt), device="cuda")
    times = [timed(lambda: model(ids, use_cache=True, logits_to_keep=1)) for _ in range(5)]
    return statistics.median(times[1:])


def main():
    folder, names = sys.argv[1], sys.argv[2:] or ["1B", "8B"]
    print(f"# torch {torch.__version__}, transformers {transformers.__version__}", file=sys.stderr)
    for name in names:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            f"{folder}/{name}", dtype=torch.bfloat16, attn_implementation="sdpa").to("cuda").eval()
        print(f"{name}-decode-1 {decode(model, 1, 32, 48)}", flush=True)
        for agents in (8, 16):
            print(f"{name}-shared-{agents} {decode(model, agents, 8192, 16)}", flush=True)
        print(f"{name}-prefill-4096 {prefill(model, 4096)}", flush=True)
        del model
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
