//! A probe asks the service that it means.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::services_nasty::Stack;
use crate::testkit::{Lab, circle, port};

fn answer(mut stream: TcpStream, status: u16) {
    drop(stream.set_read_timeout(Some(Duration::from_secs(1))));
    drop(stream.read(&mut [0; 4096]));
    drop(write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
}

/// A service that listens at one address, and answers 200; on `/endless` with a body that never ends.
#[test]
#[ignore = "it is run by other tests, as a service"]
fn plays_at_an_address() {
    let at = std::env::vars()
        .find(|(name, _)| name == "AT")
        .expect("because only a service runs this")
        .1;
    for stream in TcpListener::bind(&at).unwrap().incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut head = [0; 4096];
            let count = stream.read(&mut head).unwrap_or_default();
            if !head[..count].starts_with(b"GET /endless") {
                drop(write!(
                    stream,
                    "HTTP/1.1 200 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ));
                return;
            }
            drop(write!(stream, "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n"));
            while stream.write_all(b"more").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    }
}

fn service(at: &str, port: u16, more: &str) -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "[service.api]\nrun = ['{}', '--exact', 'services_reach::plays_at_an_address', \
         '--include-ignored', '--nocapture']\nport = {port}\nenv = {{ AT = '{at}' }}\n{more}\n",
        program.display()
    )
}

#[test]
fn probe_ignores_foreign_listener_on_the_other_address_family() {
    if TcpListener::bind("[::1]:0").is_err() {
        return circle::not_here("there is no IPv6 here");
    }
    let lab = Lab::new();
    let port = port();
    let probes = "ready = { http = '/' }\nlive = { http = '/', every = '50ms', failures = 2 }";
    let stack = Stack::new(&lab, &service(&format!("[::1]:{port}"), port, probes));
    stack.repo.xtask(&["start"]).success();
    let pid = stack.pid("api");
    let stranger = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        stranger.incoming().flatten().for_each(|stream| answer(stream, 500))
    });
    std::thread::sleep(Duration::from_millis(400));
    let row = stack.row("api");
    assert_eq!((&row["health"], row["restarts"].as_u64()), (&"healthy".into(), Some(0)), "{row}");
    assert_eq!(stack.pid("api"), pid);
}

#[test]
fn start_reports_the_actual_port_of_a_service() {
    let lab = Lab::new();
    let (wanted, other) = (port(), port());
    let at = format!("127.0.0.1:{other}");
    let stack = Stack::new(&lab, &service(&at, wanted, "ready = { tcp = true }"));
    let ran = stack.repo.xtask(&["start", "--timeout", "2s"]).status(1);
    let told = format!(
        "nothing is listening on port {wanted}; it listens on port {other} of 127.0.0.1 instead"
    );
    assert!(ran.err.contains(&format!("api: waiting: {told}")), "{}", ran.err);
    assert!(ran.err.contains(&format!("failed: not ready within 2 s: {told}")), "{}", ran.err);
}

#[test]
fn http_probe_for_status_does_not_wait_for_the_body() {
    let lab = Lab::new();
    let port = port();
    let probe = "ready = { http = '/endless', timeout = '60s' }";
    let stack = Stack::new(&lab, &service(&format!("127.0.0.1:{port}"), port, probe));
    stack.repo.xtask(&["start"]).success();
    assert_eq!(stack.state("api"), "ready");
}
