//! A day with real programs: Redis, a Celery worker, uvicorn that reloads, Vite. Started, their variables edited, the
//! worker stopped in the middle of a job, the supervisor killed, and ended: every job is done, every line of the
//! logs is there, nothing is left. PostgreSQL, and deploys under writes, are in `deploy_state.rs`. Tried with Redis
//! 7.0, Celery 5.5.3, uvicorn 0.38 and Vite 7; what is not on PATH is named.

use std::fs;
use std::process::Command;

use crate::services_nasty::{Stack, kill, left};
use crate::testkit::{Lab, circle, port};
use crate::wrong_hits::wait_for;

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|said| said.status.success())
}

const TASKS: &str = "import os, time\nfrom celery import Celery\n\
app = Celery('tasks', broker=os.environ['BROKER'], backend=os.environ['BROKER'])\n\
app.conf.broker_connection_retry_on_startup = True\n\
@app.task\ndef work(number):\n    print(f'begins {number}', flush=True)\n    time.sleep(1.5)\n    \
open(os.path.join(os.environ['XTASK_ROOT'], 'jobs'), 'a').write(f'{number}\\n')\n    \
print(f'ends {number}', flush=True)\n";

const WEB: &str = "import os\n\
async def app(scope, receive, send):\n    if scope['type'] != 'http':\n        return\n    \
await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n    \
await send({'type': 'http.response.body', 'body': os.environ.get('GREETING', '').encode()})\n";

#[test]
fn real_programs_lose_no_jobs_or_log_lines() {
    for program in ["redis-server", "celery", "uvicorn", "vite"] {
        if !is_installed(program) {
            return circle::not_tried(&format!("{program} is not installed"));
        }
    }
    let lab = Lab::new();
    let (cache, web, page) = (port(), port(), port());
    let layer = format!(
        "[service.redis]\nrun = 'redis-server --port {cache} --bind 127.0.0.1 --dir {{state}}/redis --appendonly yes'\n\
         port = {cache}\nstate = 'redis'\nready = {{ tcp = true }}\nlive = {{ tcp = true, every = '200ms' }}\n\
         [service.worker]\nrun = 'celery -A tasks worker --concurrency 2 --loglevel info'\nneeds = 'redis'\n\
         env = {{ BROKER = 'redis://127.0.0.1:{cache}/0' }}\nready = {{ log = 'ready.' }}\nstop = {{ timeout = '20s' }}\n\
         [service.web]\nrun = 'uvicorn web:app --host 127.0.0.1 --port {web} --reload --reload-dir .'\nport = {web}\n\
         env-file = '.env'\nready = {{ http = '/' }}\nlive = {{ http = '/', every = '200ms' }}\n\
         [service.page]\nrun = 'vite --host 127.0.0.1 --port {page} --strictPort page'\nport = {page}\n\
         ready = {{ http = '/' }}\n"
    )
    .replace("needs = 'redis'", "needs = ['redis']");
    let stack = Stack::new(&lab, &layer);
    let repo = &stack.repo;
    repo.write("tasks.py", TASKS);
    repo.write("web.py", WEB);
    repo.write("page/index.html", "<h1>hello</h1>\n");
    repo.write(".env", "GREETING=hello\n");
    repo.xtask(&["start", "--timeout", "120s"]).success();
    let broker = format!("redis://127.0.0.1:{cache}/0");
    let ask = |numbers: std::ops::Range<u32>| {
        let list: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let script = format!("import tasks\nfor n in [{}]: tasks.work.delay(n)", list.join(","));
        let ran = repo.run("python3", &["-c", &script], &[("BROKER", &broker)]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    };
    let jobs = || {
        let text = fs::read_to_string(repo.dir.join("jobs")).unwrap_or_default();
        let mut jobs: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
        jobs.sort_unstable();
        jobs
    };
    let logs = |name: &str| repo.xtask(&["logs", name, "--all", "-n", "10000"]).success().out;
    let get = |port: u16| {
        let answer = xtask_base::http::get(port, "/", std::time::Duration::from_secs(5)).ok()?;
        Some(String::from_utf8_lossy(&answer.body).into_owned())
    };
    assert_eq!(get(web).as_deref(), Some("hello"));
    assert!(get(page).unwrap().contains("hello"));
    ask(0..4);
    // Its variables are edited, in halves.
    for text in ["GREETING='hel", "GREETING=changed\n"] {
        repo.write(".env", text);
        assert_eq!(get(web).as_deref(), Some("hello"));
    }
    wait_for("a warning", || stack.row("web")["warnings"].to_string().contains("`.env` changed"));
    // The worker is stopped in the middle of a job, which it finishes; those that it had taken come again.
    wait_for("a job", || logs("worker").contains("begins 0"));
    repo.xtask(&["stop", "worker"]).success().never_says("killed");
    let log = logs("worker");
    for number in 0..4 {
        let has = |word: &str| log.contains(&format!("{word} {number}"));
        assert_eq!(has("begins"), has("ends"), "{log}");
    }
    repo.xtask(&["start", "worker", "--timeout", "120s"]).success();
    wait_for("all jobs", || jobs() == [0, 1, 2, 3]);
    // Its supervisor dies in the middle of others.
    ask(4..8);
    wait_for("a job", || logs("worker").contains("begins 4"));
    kill(stack.supervisor());
    wait_for("its end", || stack.ps()["supervisor"].is_null());
    wait_for("all jobs", || jobs() == [0, 1, 2, 3, 4, 5, 6, 7]);
    repo.xtask(&["start"]).success();
    repo.xtask(&["restart", "web", "--timeout", "60s"]).success();
    assert_eq!(get(web).as_deref(), Some("changed"));
    repo.xtask(&["stop"]).success().never_says("killed");
    let log = logs("worker");
    for number in 0..8 {
        assert!(log.contains(&format!("ends {number}")), "{number}: {log}");
    }
    assert_eq!(left(&lab), Vec::<String>::new());
}
