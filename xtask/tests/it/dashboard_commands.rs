//! The commands that the dashboard prints, and what it says about rules, operations, hooks and backups: each command
//! does what the page says, and none that would refuse is printed.

use crate::dashboard::{Serving, shop, text_of};
use crate::testkit::{Lab, Place, port};

/// Returns the page as a file.
fn page_of(repo: &Place<'_>) -> String {
    repo.xtask(&["dashboard", "--html", "-"]).success().out
}

/// Returns the section of a page, as HTML.
fn section<'p>(page: &'p str, id: &str) -> &'p str {
    let begin = page.split_once(&format!("<section id=\"{id}\"")).unwrap().1;
    begin.split_once("</section>").unwrap().0
}

#[test]
fn the_page_checks_the_rules_of_one_branch_and_the_names_of_all() {
    let lab = Lab::new();
    let repo = shop(&lab);
    let rules = "[[rule]]\nmatch = \"*\"\nbase = \"main\"\nmax-behind = 0\nname = \"^feature/\"\n";
    repo.canonical(&[("setup/branches.toml", Some(rules))]);
    repo.git(&["switch", "-q", "feature/own"]);
    repo.git(&["branch", "misnamed"]);
    repo.git(&["branch", "-f", "main", "orchestration-tools"]);
    let page = page_of(&repo);
    let rules = section(&page, "rules");
    for words in [
        "this branch breaks its rule; 2 of 5 branches have a name against its rule",
        "<dt>feature/own</dt><dd>it is 2 commits behind <code>main</code>",
        "<li>misnamed",
        "cargo xtask branch check --all</code>",
    ] {
        assert!(rules.contains(words), "`{words}` in\n{rules}");
    }
    assert!(!rules.contains("<dt>feature/late</dt>") && !rules.contains("/rules"), "{rules}");
    let serving = Serving::start(&repo, &["--port", &port().to_string()]);
    assert!(serving.ask("/").contains("<a href=\"/rules\">"));
    let all = serving.ask("/rules");
    assert!(all.contains("<dt>feature/late</dt><dd>it is 2 commits behind"), "{all}");
    assert!(all.contains("5 of 5 branches break their rule"), "{}", text_of(&all));
}
