//! Owners of ports from `lsof`, for systems without `/proc` (macOS).
//!
//! Tests on Linux compare it with `/proc`, using the `lsof` of Linux; its authors have not run it
//! on macOS. It reports only listeners, and only those visible to this user. For example:
//!
//! ```text
//! p7                 process 7
//! u501               of user 501
//! tIPv4
//! n127.0.0.1:8000    listens on this address
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::{PortHolder, PortOwner};
use crate::error::Result;
use crate::process::Program;
use crate::processes::{ProcessIdentity, identify_process};

/// The time limit: 20 seconds, because `lsof` inspects every open file of the machine.
const LSOF_TIMEOUT: Duration = Duration::from_secs(20);

/// The folders in which systems ship `lsof`.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Returns no addresses: running `lsof` for each probe would be too slow.
#[cfg_attr(target_os = "linux", expect(dead_code, reason = "Linux has its own"))]
pub(super) fn list_listen_addresses(_: u16) -> Vec<std::net::SocketAddr> {
    Vec::new()
}

#[cfg_attr(target_os = "linux", expect(dead_code, reason = "Linux has its own"))]
pub(super) fn list_process_addresses(_: &BTreeSet<u32>) -> Vec<std::net::SocketAddr> {
    Vec::new()
}

/// Returns the processes that listen on any of `ports`.
pub(super) fn find_holders(ports: &BTreeSet<u16>) -> Result<Vec<PortHolder>> {
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    let asked = format!("-iTCP:{}", list.join(","));
    let asked = Program::new("lsof", Path::new("/"))
        .args(["-nP", &asked, "-sTCP:LISTEN", "-F", "putn"])
        .with_full_output();
    // The exit code is ignored: `lsof` fails both without any match and with an incomplete list.
    let said = asked.env("PATH", SYSTEM_PATH).env("LC_ALL", "C").run_with_timeout(LSOF_TIMEOUT)?;
    Ok(parse_holders(&said.stdout, &identify_process))
}

/// Parses the output of `lsof -F`, one field per line: `p` begins a process and `f` one of its
/// files; `n` is the last field of a file.
fn parse_holders(text: &str, identity: &dyn Fn(u32) -> Option<ProcessIdentity>) -> Vec<PortHolder> {
    let mut holders: Vec<PortHolder> = Vec::new();
    let (mut pid, mut user, mut is_six) = (None, 0, false);
    for line in text.lines() {
        let Some((field, value)) = line.split_at_checked(1) else { continue };
        match field {
            "p" => pid = value.parse().ok(),
            "u" => user = value.parse().unwrap_or(0),
            "t" => is_six = value == "IPv6",
            "n" => {
                let Some((address, port)) = value.rsplit_once(':') else { continue };
                let Ok(port) = port.parse() else { continue };
                let address = match (address, is_six) {
                    ("*", true) => "[::]",
                    ("*", false) => "0.0.0.0",
                    (address, _) => address,
                };
                // A process that has exited in the meantime no longer holds the port.
                let Some(process) = pid.and_then(identity) else { continue };
                let address = address.to_owned();
                let owner = PortOwner { user, process: Some(process), address };
                holders.push(PortHolder { port, is_listening: true, owner });
            }
            _ => {}
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let text = "p7\nu501\nf3\ntIPv4\nn127.0.0.1:8000\nf4\ntIPv6\nn*:8001\np8\nu0\nf5\ntIPv4\nn*:80\n\
                    p9\nf1\ntIPv6\nn[::1]:80\nnot a field\nn\n\n";
        let identity = |pid: u32| {
            (pid != 9).then(|| ProcessIdentity { pid, started: 1, boot: "b".to_owned() })
        };
        let found = parse_holders(text, &identity);
        let found = found.iter().map(|one| {
            let pid = one.owner.process.as_ref().unwrap().pid;
            (pid, one.owner.user, one.owner.address.as_str(), one.port)
        });
        let found: Vec<_> = found.collect();
        let wanted = [(7, 501, "127.0.0.1", 8000), (7, 501, "[::]", 8001), (8, 0, "0.0.0.0", 80)];
        assert_eq!(found, wanted);
    }

    #[test]
    fn it_finds_what_the_kernel_tells() {
        let listeners = ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"]
            .map(|address| std::net::TcpListener::bind(address).unwrap());
        let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port());
        let ports: BTreeSet<u16> = ports.collect();
        let plain = |holders: Vec<PortHolder>| {
            let owners = holders.into_iter().map(|one| {
                let who = one.owner.process.expect("our own can be seen");
                (one.port, one.owner.address, one.owner.user, who.pid, who.started)
            });
            // Other tests start programs meanwhile, which have our files for a moment.
            let own = owners.filter(|owner| owner.3 == std::process::id());
            own.map(|(port, address, user, ..)| (port, address, user)).collect::<BTreeSet<_>>()
        };
        let found = plain(find_holders(&ports).unwrap());
        assert_eq!(found.len(), 4);
        #[cfg(target_os = "linux")]
        assert_eq!(found, plain(super::super::linux::find_holders(&ports).unwrap()));
    }
}
