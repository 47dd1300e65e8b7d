"""Traces of real requests, one of them answered at the second attempt, in Arize Phoenix and in MLflow."""
import json, os, pathlib, re, signal, socket, subprocess, sys, tempfile, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROGRAM, TOOLS = sys.argv[1], pathlib.Path(sys.argv[2])
MODEL, TOKENS, REQUESTS = "gpt-oss-120b", 20, 3
START_LIMIT_S, ARRIVE_LIMIT_S = 90, 30
failed = []
processes = []


def check(name, good, detail=""):
    print(f"{'ok' if good else 'not ok'} {name}" + (f" ({detail})" if detail and not good else ""), flush=True)
    if not good:
        failed.append(name)


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def start(*command, told=None, **environment):
    """A process of ours; with `told`, waits for a line that has it and returns it."""
    process = subprocess.Popen(command, env={**os.environ, "NO_COLOR": "1", **environment}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    processes.append(process)
    lines = []
    threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True).start()
    if told:
        return eventually(f"{command[0]} says {told}", lambda: next((line for line in list(lines) if told in line), None), START_LIMIT_S, lines)


def eventually(what, ask, limit_s, said=()):
    until, last = time.monotonic() + limit_s, None
    while time.monotonic() < until:
        try:
            found = ask()
            if found:
                return found
        except Exception as error:  # it may not be there yet
            last = error
        time.sleep(0.2)
    raise SystemExit(f"not ok {what}, not within {limit_s} s: {last} {''.join(said)[-2000:]}")


def fetch(url, body=None, headers=None):
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None,
                                     {"content-type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.loads(response.read() or "null")


class Collector:
    """Sends what it gets to every viewer, with the header that one of them wants: what a collector beside a gateway does."""

    def __init__(self, targets):
        collector = self
        self.refused = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                for url, headers in targets:
                    request = urllib.request.Request(url, body, {"content-type": self.headers["content-type"], **headers})
                    try:
                        urllib.request.urlopen(request, timeout=20).read()
                    except Exception as error:
                        collector.refused.append(f"{url}: {error}")
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def gateway(folder, receiver):
    """Its cheaper machine fails every request, so each is answered at the second attempt until the breaker opens."""
    machine = lambda *more: start(PROGRAM, "simulate", "--unlimited", *more, told=" simulated on ").split()[-1]
    bad, good = machine("--hardware", "cs3", "--fault", "error500:1"), machine("--hardware", "h100")
    pool = lambda name, hardware, address, usd: (
        f'[pool.{name}]\nhardware = "{hardware}"\nendpoints = ["http://{address}"]\n'
        f'[pool.{name}.model."{MODEL}"]\nusd_per_m = {{ input = {usd}, output = {usd} }}\n')
    (folder / "portfolio.toml").write_text(pool("bad", "cs3", bad, 0.1) + pool("good", "h100", good, 1.0))
    (folder / "policy.toml").write_text('name = "viewed"\n[[route]]\nname = "all"\nobjective = "cheapest"\n')
    (folder / "pointsman.toml").write_text(
        f'listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n[telemetry]\notlp_endpoint = "{receiver}"\n')
    line = start(PROGRAM, "serve", "--config", str(folder / "pointsman.toml"), told="serving on http")
    return re.findall(r"http://[\d.:]+", line)


def phoenix(port):
    """Trace id → spans, as Phoenix has them."""
    fields = "name spanKind statusCode parentId tokenCountPrompt tokenCountCompletion context{traceId spanId}"
    query = "{projects{edges{node{tokenCountTotal spans(first:1000){edges{node{" + fields + "}}}}}}}"
    projects = fetch(f"http://127.0.0.1:{port}/graphql", {"query": query})["data"]["projects"]["edges"]
    traces = {}
    for project in projects:
        for span in (edge["node"] for edge in project["node"]["spans"]["edges"]):
            traces.setdefault(span["context"]["traceId"], []).append(span)
    return traces, sum(project["node"]["tokenCountTotal"] for project in projects)


def in_phoenix(port, ids):
    traces, tokens = eventually("phoenix has all traces", lambda: (lambda seen: seen if set(ids) <= set(seen[0]) else None)(phoenix(port)), ARRIVE_LIMIT_S)
    recovered = 0
    for spans in (traces[one] for one in ids):
        calls = [span for span in spans if span["spanKind"] == "llm"]
        root = next(span for span in spans if not span["parentId"])
        attempts = [span for span in spans if calls and span["parentId"] == calls[0]["context"]["spanId"]]
        check("phoenix: one LLM call for a request, with its tokens", len(calls) == 1 and calls[0]["tokenCountCompletion"] == TOKENS, str(spans))
        check("phoenix: nothing is of an unknown kind", all(span["spanKind"] != "unknown" for span in spans), str([(span["name"], span["spanKind"]) for span in spans]))
        check("phoenix: request and call have not failed", root["statusCode"] != "ERROR" and calls[0]["statusCode"] != "ERROR", str(spans))
        recovered += len(attempts) == 2 and [span["statusCode"] for span in attempts].count("ERROR") == 1
    check("phoenix: the attempts are below the call, and the one that failed says so", recovered > 0)
    expected = sum(span["tokenCountPrompt"] + TOKENS for one in ids for span in traces[one] if span["spanKind"] == "llm")
    check("phoenix: tokens are counted once", tokens == expected, f"{tokens}, expected {expected}")


def in_mlflow(port, experiment, ids):
    import mlflow
    mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
    name = lambda one: f"tr-{one}"
    found = lambda: {trace.info.trace_id: trace for trace in mlflow.search_traces(locations=[experiment], return_type="list")}
    traces = eventually("mlflow has all traces", lambda: (lambda seen: seen if {name(one) for one in ids} <= set(seen) else None)(found()), ARRIVE_LIMIT_S)
    recovered = 0
    for one in ids:
        trace = traces[name(one)]
        spans = trace.data.spans
        calls = [span for span in spans if span.span_type in ("LLM", "CHAT_MODEL")]
        check("mlflow: one LLM call for a request", len(calls) == 1, str([(span.name, span.span_type) for span in spans]))
        usage = (trace.info.token_usage or {}).get("output_tokens")
        check("mlflow: its tokens are counted once", usage == TOKENS, str(trace.info.token_usage))
        check("mlflow: the request has not failed", str(trace.info.state).endswith("OK") or "STATE_UNSPECIFIED" in str(trace.info.state), str(trace.info.state))
        attempts = [span for span in spans if calls and span.parent_id == calls[0].span_id]
        recovered += len(attempts) == 2 and sum("ERROR" in str(span.status.status_code) for span in attempts) == 1
    check("mlflow: the attempts are below the call, and the one that failed says so", recovered > 0)


def main():
    with tempfile.TemporaryDirectory(prefix="viewers-") as temporary:
        folder = pathlib.Path(temporary)
        ports = {"phoenix": free_port(), "mlflow": free_port()}
        start(str(TOOLS / "phoenix/bin/phoenix"), "serve", PHOENIX_WORKING_DIR=str(folder), PHOENIX_HOST="127.0.0.1",
              PHOENIX_PORT=str(ports["phoenix"]), PHOENIX_GRPC_PORT=str(free_port()), PHOENIX_TELEMETRY_ENABLED="false")
        start(str(TOOLS / "mlflow/bin/mlflow"), "server", "--host", "127.0.0.1", "--port", str(ports["mlflow"]), "--workers", "1",
              "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", str(folder / "artifacts"),
              MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
        at = lambda viewer, path: f"http://127.0.0.1:{ports[viewer]}{path}"
        alive = lambda url: urllib.request.urlopen(url, timeout=5).status == 200
        eventually("phoenix serves", lambda: alive(at("phoenix", "/healthz")), START_LIMIT_S)
        eventually("mlflow serves", lambda: alive(at("mlflow", "/health")), START_LIMIT_S)
        experiment = fetch(at("mlflow", "/api/2.0/mlflow/experiments/create"), {"name": "gateway"})["experiment_id"]
        collector = Collector([(at("phoenix", "/v1/traces"), {}), (at("mlflow", "/v1/traces"), {"x-mlflow-experiment-id": experiment})])
        api, admin = gateway(folder, collector.url)
        body = {"model": MODEL, "max_tokens": TOKENS, "ignore_eos": True, "messages": [{"role": "user", "content": "which track?"}]}
        for _ in range(REQUESTS):
            fetch(f"{api}/v1/chat/completions", body)
        ids = eventually("the gateway tells its requests", lambda: (lambda rows: rows if len(rows) == REQUESTS else None)(
            [row["trace_id"] for row in fetch(f"{admin}/api/v1/requests")["requests"] if row["status"] == 200]), 10)
        in_phoenix(ports["phoenix"], ids)
        in_mlflow(ports["mlflow"], experiment, ids)
        check("every viewer took every message", not collector.refused, str(collector.refused[:2]))


try:
    main()
finally:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
sys.exit(1 if failed else 0)
