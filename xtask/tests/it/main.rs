//! The integration tests: one binary, temporary repositories, real git, real processes.
#![expect(clippy::disallowed_methods, reason = "tests set their scenes themselves")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(unreachable_pub, reason = "the kit reads better with plain `pub`")]
#![expect(clippy::print_stderr, reason = "a failed test says where its scene is")]

#[path = "../pictures/mod.rs"]
mod drawing;
#[path = "../testkit/mod.rs"]
mod testkit;

mod bad_input;
mod branch;
mod builds;
mod canonical;
mod check_files;
mod commands;
mod content;
mod crash;
mod dashboard;
#[cfg(target_os = "linux")]
mod dashboard_browser;
mod dashboard_commands;
mod demo;
#[cfg(target_os = "linux")]
mod deploy;
#[cfg(target_os = "linux")]
mod deploy_compose;
#[cfg(target_os = "linux")]
mod deploy_faults;
#[cfg(target_os = "linux")]
mod deploy_ssh;
#[cfg(target_os = "linux")]
mod deploy_state;
#[cfg(target_os = "linux")]
mod deploy_tools;
mod extract;
mod faults;
mod formats;
mod formats_newer;
mod histories;
mod hook_checks;
mod hooks_install;
mod hooks_managers;
mod hooks_matrix;
mod hooks_places;
mod hooks_review;
mod hooks_rules;
mod hooks_story;
mod index_kinds;
mod kill;
mod kinds_of_repositories;
mod kit;
mod lessons;
mod merge_attributes;
mod orchestration;
mod own_house;
#[cfg(target_os = "linux")]
mod pictures;
mod pin_notes;
mod pin_statements;
mod pins;
mod propagate;
mod properties;
mod random_histories;
mod recovery;
mod recovery_review;
#[cfg(target_os = "linux")]
mod recovery_services;
mod requests;
mod restage_faults;
mod restage_random;
mod reverse_sync;
mod review;
mod rules;
#[cfg(target_os = "linux")]
mod services;
#[cfg(target_os = "linux")]
mod services_bad;
mod services_day;
mod services_logs;
#[cfg(target_os = "linux")]
mod services_nasty;
#[cfg(target_os = "linux")]
mod services_reach;
#[cfg(target_os = "linux")]
mod services_review;
#[cfg(target_os = "linux")]
mod services_started;
#[cfg(target_os = "linux")]
mod services_stop;
mod shards;
mod shared_results;
#[cfg(target_os = "linux")]
mod snapshots;
mod table;
mod trust;
mod validate;
mod validate_commit;
mod validate_fixes;
mod validate_limits;
mod vendor;
mod vendor_entries;
mod vendor_parts;
mod vendor_review;
mod vendor_starters;
mod watch;
mod wrong_hits;
mod wrong_hits_tools;
