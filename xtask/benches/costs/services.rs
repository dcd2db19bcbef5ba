//! What it costs to start services, to have them watched and to stop them, ours and the managers of
//! processes that are installed in turn.
//!
//! All run the same services (`stand_in.rs`), and all are looked at from outside (`running.rs`). The
//! same services without any manager, started by the bench itself, say how long they take by
//! themselves; what a manager takes longer in the same round is its own.

use std::time::Duration;

use crate::kit::{Bench, ROUNDS, median};
use crate::managers::{Installed, Returns, installed};
use crate::plot::{Group, Section};
use crate::running::{Over, Stack, Started, Stopped, Who, is_alive, memory, ticks};

/// When each of three services listens.
const THREE: [u64; 3] = [100, 300, 500];

/// When each of a hundred does.
const HUNDRED: [u64; 100] = [300; 100];

/// How often a hundred are started and stopped.
const ROUNDS_OF_HUNDRED: usize = 3;

/// How often three are stopped of which one has left processes behind.
const ROUNDS_WITH_STRAYS: usize = 3;

/// How long a manager goes on after the last of its commands is back, with what it does in passing.
const GRACE: Duration = Duration::from_secs(1);

/// How long a manager is left alone before it is at rest, and how long it is watched then. Ours asks
/// every service six times in that time whether it lives, as by default.
const SETTLING: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(180);

/// The budgets: of a start, beyond the slowest service; of what watches.
const BUDGET_MS: f64 = 60.0;
const BUDGET_KIB: u64 = 10_000_000 / 1024;
const BUDGET_PERCENT: f64 = 0.1;

/// What came of the rounds of one side.
#[derive(Default)]
struct Times {
    ready: Vec<f64>,
    beyond: Vec<f64>,
    returned: Vec<f64>,
    /// The same, beyond the services without a manager.
    back: Vec<f64>,
    gone: Vec<f64>,
    stopped: Vec<f64>,
    left: Vec<usize>,
    resident_kib: Vec<u64>,
    fault: Option<String>,
}

pub fn three(bench: &Bench) {
    let Some(over) = begin() else { return };
    let (managers, left_out) = installed(bench);
    let mut all = measure(bench, &over, &managers, &THREE, ROUNDS);
    for (by, times) in managers.iter().zip(all.iter_mut().skip(1)) {
        for _ in 0..ROUNDS_WITH_STRAYS {
            match left_behind(bench, &over, by) {
                Ok(count) => times.left.push(count),
                Err(fault) => println!("  {} with strays: {fault}", by.manager.name),
            }
        }
    }
    println!(
        "\n  three services, the slowest ready after {} ms by itself; {ROUNDS} rounds in turn",
        THREE[2]
    );
    print(&managers, &all);
    keep(bench, "three services", Some(BUDGET_MS), &managers, &all, &left_out);
    // Ours is the first after those without a manager.
    let (ready, back) = (median(all[1].beyond.clone()), median(all[1].back.clone()));
    say_budget(&format!("xtask, ready {ready:.1} ms beyond"), ready <= BUDGET_MS, "60 ms");
    say_budget(&format!("xtask, returned {back:.1} ms beyond"), back <= BUDGET_MS, "60 ms");
}

pub fn hundred(bench: &Bench) {
    let Some(over) = begin() else { return };
    let (managers, left_out) = installed(bench);
    let all = measure(bench, &over, &managers, &HUNDRED, ROUNDS_OF_HUNDRED);
    println!(
        "\n  {} services, each ready after {} ms by itself; {ROUNDS_OF_HUNDRED} rounds in turn",
        HUNDRED.len(),
        HUNDRED[0]
    );
    print(&managers, &all);
    keep(bench, "a hundred services", None, &managers, &all, &left_out);
}

/// All of them side by side: each has little to do.
pub fn at_rest(bench: &Bench) {
    let Some(over) = begin() else { return };
    let (managers, left_out) = installed(bench);
    let mut stacks: Vec<Stack<'_>> = Vec::new();
    for by in &managers {
        let mut stack = Stack::new(bench, &over, Some(by), &THREE, false);
        match stack.start() {
            Ok(_) => stacks.push(stack),
            Err(fault) => println!("  {} was left out: {fault}", by.manager.name),
        }
    }
    over.wait(SETTLING);
    let processes: Vec<Vec<Who>> = stacks.iter().map(Stack::manager).collect();
    let spent = |who: &Vec<Who>| who.iter().map(|who| ticks(*who)).sum::<u64>();
    let before: Vec<u64> = processes.iter().map(spent).collect();
    over.wait(WATCHED);
    println!(
        "\n  {:<16}{:>9}{:>12}{:>12}{:>10}   {} s, three services",
        "",
        "processes",
        "resident",
        "in parts",
        "CPU",
        WATCHED.as_secs()
    );
    let group = |title: &str, unit| Group::new(Section::Services, title, unit).without(&left_out);
    let mut memory = group("three services, at rest: resident memory", "MB").with_budget(10.0);
    let mut time =
        group("three services, at rest: CPU time", "% of one CPU").with_budget(BUDGET_PERCENT);
    for ((stack, processes), before) in stacks.iter().zip(&processes).zip(before) {
        let (rss, pss) = of_all(processes);
        #[expect(clippy::cast_precision_loss, reason = "these are small numbers")]
        let percent = spent(processes).saturating_sub(before) as f64 / WATCHED.as_secs_f64();
        let name = stack.by.unwrap().manager.name;
        memory = memory.bar(name, &[megabytes(rss)]);
        time = time.bar(name, &[percent]);
        println!(
            "  {name:<16}{:>9}{:>12}{:>12}{percent:>8.3} %",
            processes.len(),
            mebi(rss),
            mebi(pss)
        );
        if name == "xtask" {
            say_budget("xtask, resident", rss <= BUDGET_KIB, "10 MB");
            say_budget("xtask, processor time", percent <= BUDGET_PERCENT, "0.1 %");
        }
    }
    bench.results.add(memory);
    bench.results.add(time);
    for stack in &mut stacks {
        if let Err(fault) = stack.stop() {
            println!("  {}: {fault}", stack.by.unwrap().manager.name);
        }
    }
}

/// What is asked of `/proc` can only be asked where there is one.
fn begin() -> Option<Over> {
    if cfg!(target_os = "linux") {
        return Some(Over::new());
    }
    println!("  needs /proc, and was left out");
    None
}

/// Starts and stops all sides in turn, so many times; the first one has no manager.
fn measure(
    bench: &Bench,
    over: &Over,
    managers: &[Installed],
    delays_ms: &[u64],
    rounds: usize,
) -> Vec<Times> {
    let sides = std::iter::once(None).chain(managers.iter().map(Some));
    let mut sides: Vec<(Stack<'_>, Times)> =
        sides.map(|by| (Stack::new(bench, over, by, delays_ms, false), Times::default())).collect();
    for _ in 0..rounds {
        let mut alone = 0.0;
        for (stack, times) in sides.iter_mut().filter(|(_, times)| times.fault.is_none()) {
            match round(stack) {
                Ok((started, resident, stopped)) => {
                    if stack.by.is_none() {
                        alone = started.ready;
                    }
                    times.ready.push(started.ready);
                    times.beyond.push(started.ready - alone);
                    times.returned.extend(started.returned);
                    times.back.extend(started.returned.map(|returned| returned - alone));
                    times.gone.push(stopped.gone);
                    times.stopped.push(stopped.returned);
                    times.resident_kib.push(resident);
                }
                Err(fault) => {
                    let is_peer = stack.by.is_some_and(|by| by.manager.name != "xtask");
                    assert!(is_peer, "without others to blame: {fault}");
                    times.fault = Some(fault);
                }
            }
        }
    }
    sides.into_iter().map(|(_, times)| times).collect()
}

fn round(stack: &mut Stack<'_>) -> Result<(Started, u64, Stopped), String> {
    let started = stack.start()?;
    let (resident, _) = of_all(&stack.manager());
    Ok((started, resident, stack.stop()?))
}

/// How many of the processes that a service has left are there after a stop.
fn left_behind(bench: &Bench, over: &Over, by: &Installed) -> Result<usize, String> {
    let mut stack = Stack::new(bench, over, Some(by), &THREE, true);
    stack.start()?;
    let strays = stack.strays()?;
    stack.stop()?;
    over.wait(GRACE);
    Ok(strays.into_iter().filter(|stray| is_alive(*stray)).count())
}

fn print(managers: &[Installed], all: &[Times]) {
    println!(
        "  {:<16}{:>9}{:>9}{:>10}{:>9}{:>10}{:>7}{:>11}",
        "milliseconds", "ready", "beyond", "returned", "gone", "returned", "left", "resident"
    );
    let names = std::iter::once("no manager").chain(managers.iter().map(|by| by.manager.name));
    let waits = std::iter::once(false)
        .chain(managers.iter().map(|by| by.manager.returns == Returns::Ready));
    for ((name, waits), times) in names.zip(waits).zip(all) {
        if let Some(fault) = &times.fault {
            println!("  {name:<16}was left out: {fault}");
            continue;
        }
        let number = |numbers: &[f64]| format!("{:.1}", median(numbers.to_vec()));
        let returned = if waits { number(&times.returned) } else { "-".to_owned() };
        let left = times.left.iter().max().map_or("-".to_owned(), ToString::to_string);
        let resident = times.resident_kib.iter().max().copied().unwrap_or(0);
        let beyond = median(times.beyond.clone());
        println!(
            "  {name:<16}{:>9}{beyond:>9.1}{returned:>10}{:>9}{:>10}{left:>7}{:>11}",
            number(&times.ready),
            number(&times.gone),
            number(&times.stopped),
            if resident == 0 { "-".to_owned() } else { mebi(resident) },
        );
    }
}

/// Keeps what the plot shows of these rounds.
fn keep(
    bench: &Bench,
    what: &str,
    budget: Option<f64>,
    managers: &[Installed],
    all: &[Times],
    left_out: &[String],
) {
    let mut left_out = left_out.to_vec();
    let group = |title: &str| Group::new(Section::Services, &format!("{what}, {title}"), "ms");
    let mut ready = group("until the last port is open, beyond the services alone");
    let mut back = group("until `start` returns with all ready, beyond the services alone");
    let mut gone = group("stop, until no process and no port is left");
    // The first one has no manager.
    for (by, times) in managers.iter().zip(&all[1..]) {
        let name = by.manager.name;
        if times.fault.is_some() {
            left_out.push(format!("{name} failed with {what}"));
            continue;
        }
        ready = ready.bar(name, &times.beyond);
        gone = gone.bar(name, &times.gone);
        if by.manager.returns == Returns::Ready {
            back = back.bar(name, &times.back);
        }
    }
    if let Some(budget) = budget {
        (ready, back) = (ready.with_budget(budget), back.with_budget(budget));
    }
    for group in [ready, back, gone] {
        bench.results.add(group.without(&left_out));
    }
}

fn say_budget(what: &str, is_held: bool, budget: &str) {
    println!("  {what}: the budget of {budget} is {}", if is_held { "held" } else { "missed" });
}

/// Memory of several processes in KiB, whole and in parts.
fn of_all(processes: &[Who]) -> (u64, u64) {
    processes.iter().map(|who| memory(*who)).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
}

fn mebi(kib: u64) -> String {
    format!("{:.1} MB", megabytes(kib))
}

#[expect(clippy::cast_precision_loss, reason = "these are small numbers")]
fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
