//! The table of branches and managed paths, and what is shown of one branch.
//!
//! ```text
//! branch         owner  last commit   setup/             scripts/
//! feature/menu   Ada    3 days ago    3 behind           1 customised
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;

use super::chart::{render_bar, render_days};
use super::drift::{BranchDrift, BranchOperation, Drift, shown_class};
use super::html::{encode_query, escape, escape_message, escape_name, quote_word};
use super::page::{PageTarget, render_command};
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::words::pluralize;
use xtask_config::PinHome;
use xtask_git::UnusableRef;
use xtask_sync::behind_history::DAYS;
use xtask_sync::classify::PathClass;
use xtask_sync::context::SYNC_BRANCH_PREFIX;

/// Classes in the order of need, each with its letter in the style sheet; those in sync have no mark.
const SHOWN_CLASSES: [(PathClass, &str); 7] = [
    (PathClass::Behind, "behind"),
    (PathClass::Unknown, "unknown"),
    (PathClass::Edited, "edited"),
    (PathClass::Untracked, "untracked"),
    (PathClass::Customised, "customised"),
    (PathClass::Pinned, "pinned"),
    (PathClass::Excluded, "excluded"),
];

/// What the words of the section mean.
const WORDS: &str = "<details id=\"words\"><summary>What the words mean</summary><dl class=\"paths\">\
    <dt>canonical<dd>the version of the canonical branch, which counts on every branch\
    <dt>managed<dd>a path that is to be the same on every branch, by the list in <code>setup/sync.toml</code>\
    <dt>behind<dd>an older canonical version, or none yet: a sync updates it\
    <dt>customised<dd>a version that the branch itself has committed: a sync keeps it\
    <dt>edited, untracked<dd>changes in a worktree that are not committed: a sync keeps them\
    <dt>pinned<dd>kept as it is on this branch until a day, by <code>cargo xtask pin</code>\
    <dt>unknown<dd>not to be decided, as the clone is shallow\
    </dl></details>";

/// After how many branches whose details had no room none is tried any more: rendering hundreds takes a while.
const MAX_MISSES: usize = 10;

/// The states of a whole branch that is in no class.
const IN_SYNC: &str = "in sync";
const NOT_INSPECTED: &str = "not inspected";

/// The filter of the table, as it comes with the query of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BranchFilter {
    /// A part of the name of the branch.
    pub(super) name: String,
    /// A part of the name of its owner.
    pub(super) owner: String,
    /// Only branches whose last commit is at least so many days old.
    pub(super) days: Option<i64>,
    /// Only branches in this state, as the style sheet names it, e.g. `behind` or `in-sync`; all if it is empty.
    pub(super) state: String,
}

impl BranchFilter {
    fn accepts(&self, branch: &BranchDrift, now: i64) -> bool {
        let has =
            |text: &str, part: &str| text.to_lowercase().contains(&part.trim().to_lowercase());
        // Whose date is unknown is of no age.
        let age = branch.touched.map(|at| (now - at) / 86_400);
        has(&branch.name, &self.name)
            && has(branch.owner.as_deref().unwrap_or_default(), &self.owner)
            && self.days.is_none_or(|days| age.is_some_and(|age| age >= days))
            && (self.state.is_empty() || list_states(branch).contains(&self.state))
    }

    fn is_set(&self) -> bool {
        *self != BranchFilter::default()
    }
}

/// Returns the states that a branch is in, as the style sheet names them: the classes of its paths, or one for all of
/// it.
fn list_states(branch: &BranchDrift) -> Vec<String> {
    let classes = SHOWN_CLASSES.iter().filter(|(class, _)| branch.count(*class) > 0);
    let mut states: Vec<String> = classes.map(|(_, name)| css_class(name)).collect();
    if branch.fault.is_some() {
        states.push(css_class(NOT_INSPECTED));
    }
    if states.is_empty() { vec![css_class(IN_SYNC)] } else { states }
}

/// Counts branches by the class that needs most attention; those in sync come first.
pub(super) fn count_branches(drift: &Drift) -> Vec<(&'static str, usize)> {
    let mut counts = vec![(IN_SYNC, 0), (NOT_INSPECTED, 0)];
    counts.extend(SHOWN_CLASSES.iter().map(|(_, name)| (*name, 0)));
    for branch in &drift.branches {
        let worst = SHOWN_CLASSES.iter().position(|(class, _)| branch.count(*class) > 0);
        let at = match (&branch.fault, worst) {
            // The commit is behind, whatever is in a worktree that cannot be inspected.
            (_, Some(0)) => 2,
            (Some(_), _) => 1,
            (None, Some(at)) => at + 2,
            (None, None) => 0,
        };
        counts[at].1 += 1;
    }
    counts.retain(|(_, count)| *count > 0);
    counts
}

/// Renders the section of the page.
pub(super) fn render_drift(
    drift: &Drift,
    filter: &BranchFilter,
    now: i64,
    target: PageTarget,
) -> String {
    let total = pluralize(drift.branches.len(), "branch");
    let of = drift.remote.as_ref().map_or(String::new(), |remote| {
        format!(" of <code>{}</code>, as last fetched", escape_name(remote))
    });
    let mut html = format!(
        "<p>{total}{of}, compared with <code>{}</code> at <code>{}</code>, {}.</p>",
        escape_name(&drift.canonical),
        &drift.commit.to_string()[..10],
        pluralize(drift.managed, "managed path")
    );
    let counts = count_branches(drift);
    let parts: Vec<(String, usize, &str)> =
        counts.iter().map(|(name, count)| (css_class(name), *count, *name)).collect();
    let parts: Vec<_> =
        parts.iter().map(|(class, count, name)| (&class[..], *count, *name)).collect();
    html.push_str(&render_bar(&parts));
    html.push_str("<p class=\"legend\">Each branch once, by what is most urgent: ");
    for (name, count) in counts {
        html.push_str(&format!("<span class=\"mark {}\">{count} {name}</span> ", css_class(name)));
    }
    html.push_str("</p>");
    if drift.branches.is_empty() && drift.detached.is_empty() {
        return html;
    }
    html.push_str(&render_trend(drift, now));
    html.push_str(&render_filter(drift, filter, target));
    html.push_str(&render_letters(drift));
    html.push_str(&render_table(drift, filter, now, target));
    html.push_str(WORDS);
    html
}

/// Renders what the letters in the cells mean, for the classes that occur.
fn render_letters(drift: &Drift) -> String {
    let letters = [("behind", "b"), ("unknown", "?"), ("edited", "e"), ("untracked", "u")];
    let others = [("customised", "c"), ("pinned", "p"), ("excluded", "x")];
    let occurs = |name: &str| {
        let class = SHOWN_CLASSES.iter().find(|(_, other)| *other == name).map(|(class, _)| *class);
        class.is_some_and(|class| drift.branches.iter().any(|branch| branch.count(class) > 0))
    };
    let letters = letters.into_iter().chain(others).filter(|(name, _)| occurs(name));
    let words: Vec<String> = letters
        .map(|(name, letter)| format!("<span class=\"mark {name}\">{letter}</span> {name}"))
        .collect();
    match words.is_empty() {
        true => String::new(),
        false => format!("<p class=\"legend letters\">Paths: {}</p>", words.join(", ")),
    }
}

fn css_class(name: &str) -> String {
    name.replace(' ', "-")
}

fn render_trend(drift: &Drift, now: i64) -> String {
    let days = match &drift.days {
        Ok(Some(days)) => days,
        Ok(None) => {
            return "<p class=\"soft\">There are too many commits to show how many branches were behind each day.</p>"
                .to_owned();
        }
        Err(failure) => {
            return format!(
                "<p class=\"soft\">How many branches were behind each day is not known: {}</p>",
                escape_message(&failure.to_string())
            );
        }
    };
    let day = |ago: usize| format_rfc3339(now - ago as i64 * 86_400)[..10].to_owned();
    let (first, last) = (day(DAYS - 1), day(0));
    format!(
        "<figure><figcaption>Branches that were behind, each day of the last {DAYS}</figcaption>{}</figure>",
        render_days(days, (&first, &last), "Branches behind")
    )
}

fn render_filter(drift: &Drift, filter: &BranchFilter, target: PageTarget) -> String {
    let mut owners: Vec<&str> =
        drift.branches.iter().filter_map(|branch| branch.owner.as_deref()).collect();
    owners.sort_unstable();
    owners.dedup();
    let options: String = owners
        .iter()
        .take(200)
        .map(|owner| format!("<option value=\"{}\">", escape_name(owner)))
        .collect();
    let ages: String = [
        ("", "any"),
        ("7", "a week or more"),
        ("30", "30 days or more"),
        ("90", "90 days or more"),
    ]
    .iter()
    .map(|(days, words)| {
        let is_chosen = filter.days.map_or(String::new(), |days| days.to_string()) == **days;
        let chosen = if is_chosen { " selected" } else { "" };
        format!("<option value=\"{days}\"{chosen}>{words}</option>")
    })
    .collect();
    let present: BTreeSet<String> = drift.branches.iter().flat_map(list_states).collect();
    let states: String = [NOT_INSPECTED]
        .into_iter()
        .chain(SHOWN_CLASSES.iter().map(|(_, name)| *name))
        .chain([IN_SYNC])
        .map(|name| (css_class(name), name))
        .filter(|(state, _)| present.contains(state))
        .map(|(state, name)| {
            let chosen = if state == filter.state { " selected" } else { "" };
            format!("<option value=\"{state}\"{chosen}>{name}</option>")
        })
        .collect();
    // A file has no server that filters: there the script shows the form.
    let hidden = if target == PageTarget::File { " hidden" } else { "" };
    format!(
        "<form id=\"filter\" class=\"filter\" method=\"get\" action=\"/\"{hidden} role=\"search\" aria-label=\"Filter branches\">\
         <label>Branch <input name=\"name\" type=\"search\" value=\"{}\" autocomplete=\"off\"></label>\
         <label>Owner <input name=\"owner\" type=\"search\" list=\"owners\" value=\"{}\" autocomplete=\"off\"></label>\
         <datalist id=\"owners\">{options}</datalist>\
         <label>Last commit <select name=\"days\">{ages}</select></label>\
         <label>State <select name=\"state\"><option value=\"\">any</option>{states}</select></label>\
         <button type=\"submit\">Filter</button></form>\
         <p id=\"matches\" class=\"soft\" role=\"status\"></p>",
        escape(&filter.name),
        escape(&filter.owner)
    )
}

fn render_table(drift: &Drift, filter: &BranchFilter, now: i64, target: PageTarget) -> String {
    let heads: String = drift
        .groups
        .iter()
        .map(|group| {
            let title = escape_name(&group.title());
            let paths = pluralize(group.paths, "path");
            format!("<th scope=\"col\">{title}<span class=\"soft\">{paths}</span></th>")
        })
        .collect();
    let mut html = format!(
        "<div class=\"frame\" role=\"region\" aria-label=\"Branches\" tabindex=\"0\"><table id=\"branches\" class=\"cards drift\">\
         <caption>Branches by need, with the number of paths that are not in sync in each folder</caption>\
         <thead><tr><th scope=\"col\">Branch</th><th scope=\"col\">Owner</th><th scope=\"col\">Last commit</th>{heads}</tr></thead><tbody>"
    );
    let mut shown = 0;
    let mut calm = Vec::new();
    for (at, branch) in drift.detached.iter().enumerate() {
        if filter.accepts(branch, now) {
            html.push_str(&render_row(drift, branch, at, now, target));
        }
    }
    for (at, branch) in drift.branches.iter().enumerate() {
        if !filter.accepts(branch, now) {
            continue;
        }
        shown += 1;
        if branch.paths.is_empty() && branch.fault.is_none() {
            calm.push(branch);
        } else {
            html.push_str(&render_row(drift, branch, at, now, target));
        }
    }
    html.push_str("</tbody></table></div>");
    if filter.is_set() {
        html.push_str(&format!(
            "<p>{shown} of {} match. <a href=\"/#drift\">Show all</a></p>",
            pluralize(drift.branches.len(), "branch")
        ));
    }
    if !calm.is_empty() {
        html.push_str(&format!(
            "<details id=\"calm\"><summary>{} in sync</summary><ul class=\"names\">",
            pluralize(calm.len(), "branch")
        ));
        for branch in calm {
            let owner = branch.owner.as_deref().unwrap_or_default();
            html.push_str(&format!(
                "<li data-o=\"{}\"{}>{}",
                escape_name(owner),
                data_time(branch),
                escape_name(&branch.name)
            ));
        }
        html.push_str("</ul></details>");
    }
    html
}

/// Returns the attribute with the time of the last commit, by which the script filters; none if that is unknown.
fn data_time(branch: &BranchDrift) -> String {
    branch.touched.map_or(String::new(), |at| format!(" data-t=\"{at}\""))
}

/// Returns the anchor of the row of a branch in a file, to which its details lead back.
fn row_anchor(branch: &BranchDrift, at: usize) -> String {
    format!("{}{at}", if branch.is_detached { "rw" } else { "rb" })
}

/// Returns the address of what is shown of the checked-out branch, if it has any.
pub(super) fn link_here(drift: &Drift, target: PageTarget) -> Option<String> {
    let mut all = drift.branches.iter().enumerate().chain(drift.detached.iter().enumerate());
    let (at, branch) = all.find(|(_, branch)| branch.is_current && branch.unusable.is_none())?;
    let is_there = target == PageTarget::Server || has_details(branch);
    is_there.then(|| branch_link(branch, at, target))
}

/// Returns whether a file has details of a branch.
fn has_details(branch: &BranchDrift) -> bool {
    let is_calm = branch.paths.is_empty() && branch.fault.is_none() && !branch.is_detached;
    branch.unusable.is_none() && !is_calm
}

/// Returns the address of what is shown of a branch.
fn branch_link(branch: &BranchDrift, at: usize, target: PageTarget) -> String {
    match (target, &branch.worktree) {
        (PageTarget::Server, Some(root)) if branch.is_detached => {
            format!("/branch?worktree={}", encode_query(&root.to_string_lossy()))
        }
        (PageTarget::Server, _) => format!("/branch?n={}", encode_query(&branch.name)),
        (PageTarget::File, _) if branch.is_detached => format!("#w{at}"),
        (PageTarget::File, _) => format!("#b{at}"),
    }
}

fn render_row(
    drift: &Drift,
    branch: &BranchDrift,
    at: usize,
    now: i64,
    target: PageTarget,
) -> String {
    let link = branch_link(branch, at, target);
    let mut cells: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); drift.groups.len()];
    for path in &branch.paths {
        let class = SHOWN_CLASSES.iter().position(|(class, _)| *class == shown_class(path.class));
        if let (Some(class), Some(cell)) = (class, cells.get_mut(path.group)) {
            *cell.entry(class).or_default() += 1;
        }
    }
    let mut tags = String::new();
    if branch.is_current {
        tags.push_str(" <span class=\"tag\">here</span>");
    } else if let Some(root) = branch.worktree.as_ref().filter(|_| branch.is_detached) {
        let root = escape_name(&root.to_string_lossy());
        tags.push_str(&format!(" <span class=\"soft\">in {root}</span>"));
    } else if branch.is_worktree_gone {
        tags.push_str(" <span class=\"tag\">worktree is gone</span>");
    } else if branch.worktree.is_some() {
        tags.push_str(" <span class=\"tag\">worktree</span>");
    }
    if branch.is_protected {
        tags.push_str(" <span class=\"tag\">protected</span>");
    }
    if branch.fault.is_some() {
        let why = branch.fault.as_deref().unwrap_or_default();
        tags.push_str(&format!(
            " <span class=\"mark not-inspected\">not inspected</span> <span class=\"soft\">{}</span>",
            escape_message(why)
        ));
    }
    let cell_link = match target {
        PageTarget::Server => format!("\"{link}#paths\""),
        PageTarget::File => link.clone(),
    };
    let touched = data_time(branch);
    let class = if branch.is_detached { " class=\"detached\"" } else { "" };
    let (row_id, name) = (row_anchor(branch, at), escape_name(&branch.name));
    let age = branch.touched.map_or("–".to_owned(), |at| format_ago(now, at));
    let mut row = format!(
        "<tr{touched}{class}><th scope=\"row\">{}{tags}<td>{}<td>{age}",
        match (&branch.unusable, target) {
            // A name that is no UTF-8 is not that of the branch: no page has it.
            (Some(why), _) => {
                let rename = match why {
                    UnusableRef::NotUtf8 => " (`git branch -m OLD NEW` renames it)",
                    UnusableRef::Symbolic(_) | UnusableRef::NotACommit => "",
                };
                let why = escape_message(&format!("{why}{rename}"));
                format!("<span>{name}</span> <span class=\"soft\">{why}</span>")
            }
            (None, PageTarget::Server) => format!("<a href=\"{link}\">{name}</a>"),
            (None, PageTarget::File) => format!("<a id=\"{row_id}\" href=\"{link}\">{name}</a>"),
        },
        escape_name(branch.owner.as_deref().unwrap_or("–")),
    );
    for (group, cell) in drift.groups.iter().zip(cells) {
        row.push_str("<td>");
        if cell.is_empty() {
            continue;
        }
        // As short as can be: a page of hundreds of branches has thousands of cells. The style sheet adds the class
        // behind each number.
        let marks: String = cell
            .into_iter()
            .map(|(class, count)| format!("<b class={}>{count}</b>", SHOWN_CLASSES[class].1))
            .collect();
        let title = escape_name(&group.title());
        row.push_str(&match branch.unusable {
            Some(_) => format!("<i>{title} </i>{marks}"),
            None => format!("<a href={cell_link}><i>{title} </i>{marks}</a>"),
        });
    }
    row.push_str("</tr>\n");
    row
}

/// Renders the details of branches for a file, in at most `room` bytes as far as possible: the checked-out branch and
/// the protected ones first, then those that need attention. The others have the command that updates them.
pub(super) fn render_details(drift: &Drift, now: i64, room: usize) -> String {
    let rows = drift.detached.iter().enumerate().map(|(at, row)| (format!("w{at}"), at, row));
    let branches = drift.branches.iter().enumerate().map(|(at, row)| (format!("b{at}"), at, row));
    let shown: Vec<_> = rows.chain(branches).filter(|(_, _, branch)| has_details(branch)).collect();
    let is_remote = drift.remote.is_some();
    let mut bodies: Vec<String> = shown
        .iter()
        .map(|(_, _, branch)| render_short(branch, &drift.canonical, is_remote))
        .collect();
    let frame = |id: &str, row: String, name: &str, body: &str| {
        format!(
            "<section class=\"detail\" id=\"{id}\" tabindex=\"-1\"><a class=\"close\" href=\"#{row}\">Close</a>\
             <h3>{}</h3>{body}</section>\n",
            escape_name(name)
        )
    };
    let size = |(id, at, branch): &(String, usize, &BranchDrift)| {
        frame(id, row_anchor(branch, *at), &branch.name, "").len()
    };
    let least: usize = shown.iter().map(size).chain(bodies.iter().map(String::len)).sum();
    let (mut left, mut misses) = (room.saturating_sub(least), 0);
    let mut order: Vec<usize> = (0..shown.len()).collect();
    order.sort_by_key(|at| (!shown[*at].2.is_current, !shown[*at].2.is_protected));
    for at in order {
        let body = render_branch(shown[at].2, &drift.canonical, is_remote, now);
        let more = body.len().saturating_sub(bodies[at].len());
        if more <= left {
            left -= more;
            bodies[at] = body;
        } else {
            misses += 1;
            if misses > MAX_MISSES {
                break;
            }
        }
    }
    let all = shown.into_iter().zip(bodies);
    all.map(|((id, at, branch), body)| frame(&id, row_anchor(branch, at), &branch.name, &body))
        .collect()
}

/// Renders how many paths of a branch are not in sync, and the command about them.
fn render_short(branch: &BranchDrift, canonical: &str, is_remote: bool) -> String {
    let command = list_commands(branch, canonical, is_remote).into_iter().next();
    let (what, command) = command.unwrap_or_else(|| {
        ("This shows them".to_owned(), format!("{} status -v", command_prefix(branch)))
    });
    let count = pluralize(branch.paths.len(), "path");
    format!("<p>{count}, for which this file has no room. {what}:</p>{}", render_command(&command))
}

/// Renders what is known of a branch: its state, the commands that mend it, and its paths by class and reason.
pub(super) fn render_branch(
    branch: &BranchDrift,
    canonical: &str,
    is_remote: bool,
    now: i64,
) -> String {
    let mut html = String::new();
    if let Some(fault) = &branch.fault {
        html.push_str(&format!(
            "<p class=\"trouble\">It could not be inspected: {}</p>",
            escape_message(fault)
        ));
    }
    if let (Some(owner), Some(at)) = (&branch.owner, branch.touched) {
        html.push_str(&format!(
            "<p class=\"soft\">Last commit by {}, {}; at <code>{}</code>.</p>",
            escape_name(owner),
            format_ago(now, at),
            &branch.commit.to_string()[..10]
        ));
    }
    if let Some(operation) = &branch.operation {
        html.push_str(&render_operation(operation, branch.is_current));
    }
    for (what, command) in list_commands(branch, canonical, is_remote) {
        html.push_str(&format!("<p>{what}:</p>{}", render_command(&command)));
    }
    let mut by_reason: BTreeMap<(usize, &str), Vec<String>> = BTreeMap::new();
    for path in &branch.paths {
        let class = SHOWN_CLASSES.iter().position(|(class, _)| *class == shown_class(path.class));
        let entry = by_reason.entry((class.unwrap_or(SHOWN_CLASSES.len()), &path.reason));
        entry.or_default().push(escape_name(&path.path.to_string()));
    }
    html.push_str("<dl class=\"paths\">");
    for ((class, reason), paths) in by_reason {
        let name = SHOWN_CLASSES.get(class).map_or("other", |(_, name)| name);
        html.push_str(&format!(
            "<dt><span class=\"mark {name}\">{} {name}</span> {}</dt><dd>{}</dd>",
            paths.len(),
            escape_message(reason),
            paths.join(" · ")
        ));
    }
    html.push_str("</dl>");
    html
}

/// Renders what is in progress in a worktree, and the commands that end it.
pub(super) fn render_operation(of: &BranchOperation, is_current: bool) -> String {
    let BranchOperation { operation, root } = of;
    let (place, at) = match is_current {
        true => ("this worktree".to_owned(), String::new()),
        false => {
            let name = escape_name(&root.to_string_lossy());
            let word = quote_word(root.as_os_str().as_bytes());
            (format!("<code>{name}</code>"), format!(" -C {word}"))
        }
    };
    let command = |command: &str| {
        let rest = command.strip_prefix("git ").unwrap_or(command);
        render_command(&format!("git{at} {rest}"))
    };
    let mut html = format!(
        "<p class=\"trouble\">In {place} {} is in progress; sync writes nothing there until it has ended. This ends it:</p>{}",
        escape_message(operation.name),
        command(operation.continue_command)
    );
    if operation.abort_command != operation.continue_command {
        html.push_str(&format!("<p>This undoes it:</p>{}", command(operation.abort_command)));
    }
    html
}

/// Returns how a command about a branch begins: where the branch is, or after it is checked out here.
pub(super) fn command_prefix(branch: &BranchDrift) -> String {
    let name = quote_argument(&branch.name);
    match &branch.worktree {
        Some(_) if branch.is_current => "cargo xtask".to_owned(),
        Some(_) if branch.is_worktree_gone => {
            format!("git worktree prune && git switch {name} && cargo xtask")
        }
        Some(root) => format!("cargo xtask -C {}", quote_word(root.as_os_str().as_bytes())),
        None => format!("git switch {name} && cargo xtask"),
    }
}

/// Quotes the name of a branch as an argument: what begins like an option is none.
fn quote_argument(name: &str) -> String {
    let word = quote_word(name.as_bytes());
    if name.starts_with('-') { format!("-- {word}") } else { word }
}

/// Returns the commands that would bring a branch up to date, each with what it does.
fn list_commands(branch: &BranchDrift, canonical: &str, is_remote: bool) -> Vec<(String, String)> {
    let there = command_prefix(branch);
    let mut commands = Vec::new();
    let mut add = |what: &str, command: String| commands.push((what.to_owned(), command));
    // Until an operation has ended, nothing is written.
    let is_idle = branch.operation.is_none();
    if is_idle && branch.count(PathClass::Behind) > 0 {
        let (what, command) = update_command(branch, is_remote);
        add(&what, command);
    }
    // On a protected branch nothing is committed.
    if is_idle && !branch.is_protected && branch.has_paths_to_merge() {
        add(
            "This merges the canonical changes into its own versions",
            format!("{there} sync --merge"),
        );
    }
    if branch.count(PathClass::Edited) + branch.count(PathClass::Untracked) > 0 {
        add("This shows its uncommitted changes", format!("{there} diff"));
    }
    if let Some(pin) = branch.paths.iter().find_map(|path| path.pin.as_ref()).filter(|_| is_idle) {
        let path = quote_word(pin.path.as_bytes());
        add(
            "It keeps its content at pinned paths; this ends a pin",
            match pin.home {
                PinHome::Canonical => format!(
                    "git switch {} && cargo xtask unpin {path} --branch {}",
                    quote_word(canonical.as_bytes()),
                    quote_word(pin.branch.as_bytes())
                ),
                PinHome::Branch | PinHome::Upstream => format!("{there} unpin {path}"),
            },
        );
    }
    if branch.count(PathClass::Unknown) > 0 {
        add(
            "The history that would decide is missing; this fetches it",
            "git fetch --unshallow".to_owned(),
        );
    }
    commands
}

/// Returns the command that brings a branch up to date, and what it does.
pub(super) fn update_command(branch: &BranchDrift, is_remote: bool) -> (String, String) {
    let named = quote_argument(&branch.name);
    // From a worktree that is gone git has to be told first.
    let forget = if branch.is_worktree_gone { "git worktree prune && " } else { "" };
    let remote = if is_remote { " --remote --push" } else { "" };
    let propagate = format!("{forget}cargo xtask propagate{remote} {named}");
    if branch.is_protected {
        let side = escape_name(&format!("{SYNC_BRANCH_PREFIX}{}", branch.name));
        let what = "It is protected: this commits the update to the side branch";
        (format!("{what} <code>{side}</code>, to be merged into it"), propagate)
    } else if branch.worktree.is_some() && !branch.is_worktree_gone {
        let sync = format!("{} sync", command_prefix(branch));
        ("This brings it up to date".to_owned(), sync)
    } else {
        ("This brings it up to date, without checking it out".to_owned(), propagate)
    }
}

/// Renders the command that updates all branches that are behind, with what it does not do.
pub(super) fn render_update_all(drift: &Drift) -> String {
    let mut html = String::new();
    if drift.branches.iter().any(|branch| branch.count(PathClass::Unknown) > 0) {
        html.push_str(&format!(
            "<p>This clone is shallow: whether a path is behind or customised is unknown where its history is cut off. \
             This fetches the rest:</p>{}",
            render_command("git fetch --unshallow")
        ));
    }
    let behind = drift
        .branches
        .iter()
        .filter(|branch| branch.count(PathClass::Behind) > 0)
        .filter(|branch| branch.operation.is_none() && branch.unusable.is_none());
    let (protected, others): (Vec<&BranchDrift>, Vec<&BranchDrift>) =
        behind.partition(|branch| branch.is_protected);
    let mut words = Vec::new();
    if !others.is_empty() {
        let are = if others.len() == 1 { "is" } else { "are" };
        words.push(format!(
            "This updates {} that {are} behind, also what a filter hides, without checking any out; it names those \
             that it has to leave.",
            pluralize(others.len(), "branch")
        ));
    }
    if let Some(first) = protected.first() {
        let this = if others.is_empty() { "This" } else { "It" };
        let is = if protected.len() == 1 { "is" } else { "are" };
        words.push(format!(
            "{this} commits the update of {}, which {is} protected, to a side branch \
             (<code>{}</code>), to be merged by a pull request.",
            pluralize(protected.len(), "branch"),
            escape_name(&format!("{SYNC_BRANCH_PREFIX}{}", first.name))
        ));
    }
    if !words.is_empty() {
        let remote = if drift.remote.is_some() { " --remote --push" } else { "" };
        let command = render_command(&format!("cargo xtask propagate{remote}"));
        html.push_str(&format!("<p>{}</p>{command}", words.join(" ")));
    }
    html
}
