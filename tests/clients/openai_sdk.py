"""The official OpenAI SDK against the gateway: what every caller of this field does on its first day."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

import httpx
import openai

MODEL = "gpt-oss-120b"
CHAT = [{"role": "user", "content": "Which track shall the next train take?"}]
# Exactly this many tokens, whatever the machine would like to say.
TWENTY = {"max_tokens": 20, "extra_body": {"ignore_eos": True}}
ENDLESS = {"max_tokens": 100_000, "extra_body": {"ignore_eos": True}}


class Process:
    """A `pointsman` process; what it prints is read to the end so that it never blocks."""

    def __init__(self, program, arguments, announced, folder):
        self.child = subprocess.Popen(
            [program, *arguments], cwd=folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.lines, self.line, found = [], "", threading.Event()

        def read():
            for line in self.child.stdout:
                self.lines.append(line)
                if announced in line and not found.is_set():
                    self.line = line.split(announced, 1)[1].strip()
                    found.set()
            found.set()

        threading.Thread(target=read, daemon=True).start()
        if not found.wait(20) or not self.line:
            self.stop()
            raise RuntimeError(f"`{arguments[0]}` did not start:\n{''.join(self.lines)}")

    def stop(self):
        self.child.kill()
        self.child.wait()


def simulate(program, folder, *arguments):
    """A simulated machine; returns it and its base URL."""
    common = ["simulate", "--hardware", "h100", "--unlimited", "--until-stdin-closes"]
    machine = Process(program, [*common, *arguments], " simulated on ", folder)
    return machine, f"http://{machine.line}"


def http_json(url, body=None):
    """GET, or POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=10) as answer:
        return json.load(answer)


class World:
    """A gateway with a good machine, one that breaks every stream, and one that is not there."""

    def __init__(self, program, folder):
        self.started = []
        good, self.good = simulate(program, folder, "--speed", "10")
        self.started.append(good)
        breaks, broken = simulate(program, folder, "--fault", "reset-mid-stream:1")
        self.started.append(breaks)
        pools = {
            "good": (self.good, MODEL, MODEL),
            "breaks": (broken, "breaks", MODEL),
            "gone": ("http://127.0.0.1:1", "gone", MODEL),
        }
        text = "".join(
            f'[pool.{pool}]\nhardware = "h100"\nendpoints = ["{url}"]\n'
            f'[pool.{pool}.model."{model}"]\nupstream = "{upstream}"\n'
            for pool, (url, model, upstream) in pools.items()
        )
        files = {
            "pointsman.toml": 'listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n',
            "portfolio.toml": text,
            "policy.toml": 'name = "clients"\n',
        }
        for name, content in files.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(content)
        gateway = Process(program, ["serve"], "serving on ", folder)
        self.started.append(gateway)
        self.base_url = gateway.line.split(",")[0] + "/v1"

    def client(self, max_retries=0, kind=openai.OpenAI, **more):
        return kind(base_url=self.base_url, api_key="not-needed", max_retries=max_retries, timeout=30, **more)

    def faults(self, *faults):
        http_json(f"{self.good}/simulator/faults", {"faults": list(faults)})

    def stats(self):
        return http_json(f"{self.good}/simulator/stats")

    def stop(self):
        for process in reversed(self.started):
            process.stop()


def raises(kind, call):
    """The exception that a call raises; any other is a failure."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def models_are_listed_and_retrieved(world):
    client = world.client()
    assert [model.id for model in client.models.list()] == ["breaks", "gone", MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def a_chat_is_answered(world):
    answer = world.client().chat.completions.create(model=MODEL, messages=CHAT, **TWENTY)
    assert answer.usage.completion_tokens == 20 and answer.choices[0].finish_reason == "length", answer
    assert len(answer.choices[0].message.content.split(" ")) == 20


def a_chat_is_streamed_with_its_usage(world):
    stream = world.client().chat.completions.create(
        model=MODEL, messages=CHAT, stream=True, stream_options={"include_usage": True}, **TWENTY
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split(" ")) == 20, text
    assert chunks[-1].usage.completion_tokens == 20 and chunks[-1].choices == []
    assert all(chunk.usage is None for chunk in chunks[:-1])


def the_async_client_streams_many_at_once(world):
    async def one(client):
        stream = await client.chat.completions.create(model=MODEL, messages=CHAT, stream=True, **TWENTY)
        return len([chunk async for chunk in stream])

    async def many():
        async with world.client(kind=openai.AsyncOpenAI) as client:
            return await asyncio.gather(*(one(client) for _ in range(30)))

    counts = asyncio.run(many())
    assert len(counts) == 30 and min(counts) >= 20, counts


def a_prompt_is_completed(world):
    client = world.client()
    answer = client.completions.create(model=MODEL, prompt="Mind the", **TWENTY)
    assert answer.object == "text_completion" and answer.usage.completion_tokens == 20
    chunks = list(client.completions.create(model=MODEL, prompt="Mind the", stream=True, **TWENTY))
    assert len("".join(chunk.choices[0].text for chunk in chunks).split(" ")) == 20


def embeddings_come_in_both_encodings(world):
    client = world.client()
    packed = client.embeddings.create(model=MODEL, input=["one", "two"])  # base64 unless asked otherwise
    plain = client.embeddings.create(model=MODEL, input=["one", "two"], encoding_format="float")
    for left, right in zip(packed.data, plain.data):
        assert len(left.embedding) == len(right.embedding) > 0
        assert all(abs(a - b) < 1e-6 for a, b in zip(left.embedding, right.embedding))


def errors_are_of_their_class(world):
    client = world.client()
    chat = client.chat.completions.create
    error = raises(openai.NotFoundError, lambda: chat(model="gpt-oss-12b", messages=CHAT))
    assert error.code == "model_not_found" and error.param == "model", error
    assert "did you mean `gpt-oss-120b`?" in error.message, error
    raises(openai.NotFoundError, lambda: client.models.retrieve("nope"))
    error = raises(openai.BadRequestError, lambda: chat(model=MODEL, messages=CHAT, stream="yes"))
    assert error.code == "bad_body", error
    headers = {"x-pointsman-class": "urgent"}
    error = raises(openai.BadRequestError, lambda: chat(model=MODEL, messages=CHAT, extra_headers=headers))
    assert error.code == "unknown_class" and "`realtime`" in error.message, error
    error = raises(openai.BadRequestError, lambda: chat(model=MODEL, messages=CHAT, max_tokens=0))
    assert "max_tokens" in error.message, f"the machine's own words: {error}"


def headers_say_who_answered(world):
    raw = world.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=CHAT, extra_headers={"x-pointsman-class": "realtime"}, **TWENTY
    )
    assert raw.headers["x-pointsman-class"] == "realtime" and raw.headers["x-pointsman-policy"] == "clients@1"
    assert raw.headers["x-pointsman-endpoint"].startswith("good/") and raw.headers["x-pointsman-attempts"] == "1"
    assert raw.request_id.startswith("req_") and raw.retries_taken == 0
    assert raw.parse().usage.completion_tokens == 20


def a_429_is_tried_again_when_the_gateway_says(world):
    world.faults("overloaded-429:1")
    try:
        error = raises(
            openai.RateLimitError,
            lambda: world.client().chat.completions.create(model=MODEL, messages=CHAT, **TWENTY),
        )
        assert error.code == "saturated" and 0 < int(error.response.headers["retry-after-ms"]) <= 1000, error
        # Mended once the client itself was refused: a shorter bout may be waited out in the gateway's queue.
        mends = httpx.Client(event_hooks={"response": [lambda answer: answer.status_code == 429 and world.faults()]})
        began = time.monotonic()
        raw = world.client(max_retries=3, http_client=mends).chat.completions.with_raw_response.create(
            model=MODEL, messages=CHAT, **TWENTY
        )
        took = time.monotonic() - began
        assert raw.retries_taken >= 1 and 0.4 <= took <= 15, (raw.retries_taken, took)
    finally:
        world.faults()


def a_503_is_tried_again_and_told(world):
    client = world.client(max_retries=1)
    began = time.monotonic()
    error = raises(openai.InternalServerError, lambda: client.chat.completions.create(model="gone", messages=CHAT))
    assert error.status_code == 503 and error.code == "backends_unavailable", error
    assert error.request.headers["x-stainless-retry-count"] == "1"
    assert 0.9 <= time.monotonic() - began <= 10, "after a second, as `retry-after` asked"


def a_stream_that_breaks_is_an_error(world):
    seen = []

    def read():
        stream = world.client().chat.completions.create(model="breaks", messages=CHAT, stream=True, **TWENTY)
        seen.extend(stream)

    error = raises(openai.APIError, read)
    assert not isinstance(error, openai.APIStatusError), "it broke after it had begun"
    assert "the stream broke" in error.message and error.code == "stream_broken", error
    assert seen, "what came before is not lost"


def a_stream_that_is_closed_stops_the_machine(world):
    before = world.stats()["cancelled"]
    stream = world.client().chat.completions.create(model=MODEL, messages=CHAT, stream=True, **ENDLESS)
    next(iter(stream))
    stream.close()
    closed = time.monotonic()
    while world.stats()["cancelled"] == before:
        assert time.monotonic() - closed < 1, "the machine works on"
    assert world.stats()["running"] == 0


TESTS = [
    models_are_listed_and_retrieved,
    a_chat_is_answered,
    a_chat_is_streamed_with_its_usage,
    the_async_client_streams_many_at_once,
    a_prompt_is_completed,
    embeddings_come_in_both_encodings,
    errors_are_of_their_class,
    headers_say_who_answered,
    a_429_is_tried_again_when_the_gateway_says,
    a_503_is_tried_again_and_told,
    a_stream_that_breaks_is_an_error,
    a_stream_that_is_closed_stops_the_machine,
]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped from outside, or out of time"))
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        world = World(sys.argv[1], folder)
        try:
            for test in TESTS:
                try:
                    test(world)
                    print(f"ok {test.__name__}", flush=True)
                except Exception:
                    failed += 1
                    print(f"not ok {test.__name__}", flush=True)
                    traceback.print_exc()
        finally:
            world.stop()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
