//! The last samples of what services use, as small bars for `ps --watch`.
//!
//! ```text
//! api      ready  healthy  4711  8100   3m 20s        0   12 MB  0.3%  ▁▁▂█▁
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::status::StackStatus;
use xtask_base::words::bar;

/// How many samples are kept of a service, one for each redraw.
const SAMPLES: usize = 30;

/// The CPU time that fills a bar at least, in hundredths of a percent of a core: below it, noise would look like work.
const LEAST_SCALE: u64 = 1000;

/// The last samples of each service: CPU time in hundredths of a percent of a core, by layer and service.
#[derive(Debug, Default)]
pub struct UsageTrend {
    samples: BTreeMap<(String, String), VecDeque<u64>>,
}

impl UsageTrend {
    /// Adds a sample of each service that runs, and forgets those that are gone.
    pub fn add_sample(&mut self, pages: &[StackStatus]) {
        let mut seen = BTreeSet::new();
        for page in pages {
            for row in &page.services {
                let Some(cpu) = row.cpu.filter(|cpu| cpu.is_finite()) else { continue };
                let name = (page.layer.clone(), row.service.clone());
                let samples = self.samples.entry(name.clone()).or_default();
                samples.push_back((cpu.max(0.0) * 100.0) as u64);
                if samples.len() > SAMPLES {
                    samples.pop_front();
                }
                seen.insert(name);
            }
        }
        self.samples.retain(|name, _| seen.contains(name));
    }

    /// Renders the bars of a service, the newest sample last.
    #[must_use]
    pub fn render_bars(&self, layer: &str, service: &str) -> String {
        let name = (layer.to_owned(), service.to_owned());
        let Some(samples) = self.samples.get(&name) else { return String::new() };
        let most = samples.iter().copied().max().unwrap_or(0).max(LEAST_SCALE);
        samples.iter().map(|sample| bar(*sample, most)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::SCHEMA;

    fn page(cpu: Option<f64>) -> StackStatus {
        let service = serde_json::json!({
            "service": "api", "state": "ready", "health": "healthy", "pid": 4711, "port": null,
            "uptime_ms": 1, "restarts": 0, "memory": 1, "cpu": cpu, "degraded": false,
            "required": true, "warnings": [], "error": null
        });
        let service = serde_json::from_value(service).unwrap();
        StackStatus {
            schema: SCHEMA.to_owned(),
            layer: "local".to_owned(),
            worktree: "/w".to_owned(),
            supervisor: None,
            services: vec![service],
        }
    }

    #[test]
    fn the_last_samples_are_shown_and_the_gone_are_forgotten() {
        let mut trend = UsageTrend::default();
        for cpu in [0.0, 0.3, 50.0, 100.0] {
            trend.add_sample(&[page(Some(cpu))]);
        }
        assert_eq!(trend.render_bars("local", "api"), "▁▂▅█");
        assert_eq!(trend.render_bars("local", "web"), "");
        for _ in 0..40 {
            trend.add_sample(&[page(Some(1.0))]);
        }
        assert_eq!(trend.render_bars("local", "api").chars().count(), SAMPLES);
        trend.add_sample(&[page(None)]);
        assert_eq!(trend.render_bars("local", "api"), "");
    }
}
