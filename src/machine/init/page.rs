//! What the screen shows.

use super::Init;
use crate::machine::console::Page;

impl Init {
    pub(super) fn page(&self) -> Page {
        let mut page = Page {
            title: format!("Cairn {}  ({})", self.release.version, self.origin()),
            rows: Vec::new(),
        };
        if let Some(configured) = &self.configured {
            page.row("domain", configured.domain.clone());
            page.row("configuration", configured.origin.clone());
        }
        page.row("addresses", self.addresses().join("\n"));
        // What a person is to do stands where nothing pushes it off the screen.
        for (name, text) in &self.notices {
            page.row(name, text.clone());
        }
        page.row("waiting", self.waits.clone().unwrap_or_default());
        page.row("network", self.reach.said());
        page.row("certificate", self.figures.certificate.clone());
        let listening: Vec<String> = self
            .figures
            .listening
            .iter()
            .map(ToString::to_string)
            .collect();
        page.row("listens on", listening.join(", "));
        if self.configured.is_some() {
            page.row(
                "people",
                format!(
                    "{} accounts, {} connected",
                    self.figures.accounts, self.figures.sessions
                ),
            );
        }
        page.row("store", self.store());
        page.row("root", self.root_hash.clone());
        page.row("clock", self.clock_said());
        if let Some(watchdog) = &self.watchdog {
            page.row("watchdog", watchdog.identity.clone());
        }
        page
    }

    fn store(&self) -> String {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        if self.figures.store_bytes == 0 {
            return self.data_said.clone();
        }
        format!(
            "{}: {} of {} MiB",
            self.data_said,
            mebibytes(self.figures.used_bytes),
            mebibytes(self.figures.store_bytes)
        )
    }
}
