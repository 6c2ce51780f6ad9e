//! Trouble as others list it.

use chrono::{DateTime, Utc};

use super::{Desk, quiet::Muted};
use crate::{
    event::Event,
    incident::Incident,
    view::{AlertView, Alerts, AlertsFrom},
};

/// Alerts of one page.
const ALERTS_MAX: usize = 200;
/// Bytes of labels, annotations and links that end a page: one message of the broker holds it.
const BYTES_MAX: usize = 256 * 1024;

impl Desk {
    /// Returns a page of all trouble that is there: open incidents, then what is kept quiet.
    #[must_use]
    pub fn alerts(&self, from: &AlertsFrom, now: DateTime<Utc>) -> Alerts {
        let mut page = Alerts::default();
        let mut bytes = 0;
        if from.quiet.is_none() {
            for incident in self.incidents.open_after(from.incident) {
                let last = page.alerts.last().and_then(|it: &AlertView| it.incident);
                if is_full(&page, bytes) {
                    page.next = Some(AlertsFrom { incident: last, quiet: None });
                    return page;
                }
                let alert = self.alert(incident, now);
                bytes += size(&alert);
                page.alerts.push(alert);
            }
        }
        let mut last = from.quiet.clone();
        for muted in self.quiet.muted_after(from.quiet.as_deref()) {
            if is_full(&page, bytes) {
                // The empty text comes before all fingerprints.
                page.next =
                    Some(AlertsFrom { incident: None, quiet: Some(last.unwrap_or_default()) });
                return page;
            }
            let alert = self.muted_alert(muted);
            bytes += size(&alert);
            last = Some(muted.fingerprint.clone());
            page.alerts.push(alert);
        }
        page
    }

    fn alert(&self, incident: &Incident, now: DateTime<Utc>) -> AlertView {
        let event = incident.event.event();
        AlertView {
            incident: Some(incident.id),
            status: Some(incident.status()),
            target: incident.named_target().map(str::to_owned),
            zone: self.zone_of(incident),
            starts_at: event.starts_at.unwrap_or(incident.opened_at),
            ends_at: incident.lease,
            updated_at: incident.updated_at,
            analysis: incident.analysis.clone(),
            acknowledged_by: incident.acknowledged_by.clone(),
            symptom_of: incident.symptom_of(),
            quiet: self.silenced_by(incident, now),
            receivers: incident.told.keys().cloned().collect(),
            ..of_event(event)
        }
    }

    fn muted_alert(&self, muted: &Muted) -> AlertView {
        let event = muted.event.clone();
        let configured = muted.target.as_deref().and_then(|name| self.config.target(name));
        let zone = configured.map(|it| it.zone.clone()).unwrap_or_default();
        AlertView {
            target: muted.target.clone().or_else(|| event.target.clone()),
            zone,
            starts_at: event.starts_at.unwrap_or(muted.since),
            ends_at: event.ends_at,
            updated_at: muted.since,
            quiet: Some(muted.cause.clone()),
            ..of_event(event)
        }
    }
}

fn of_event(event: Event) -> AlertView {
    AlertView {
        incident: None,
        status: None,
        kind: event.kind.to_string(),
        source: event.source,
        severity: event.severity,
        target: None,
        zone: String::new(),
        labels: event.labels,
        annotations: event.annotations,
        links: event.links,
        starts_at: DateTime::UNIX_EPOCH,
        ends_at: None,
        updated_at: DateTime::UNIX_EPOCH,
        analysis: None,
        acknowledged_by: None,
        symptom_of: None,
        quiet: None,
        receivers: Vec::new(),
    }
}

fn is_full(page: &Alerts, bytes: usize) -> bool {
    // One is always shown, or the list would never end.
    !page.alerts.is_empty() && (ALERTS_MAX <= page.alerts.len() || BYTES_MAX <= bytes)
}

fn size(alert: &AlertView) -> usize {
    let pairs = alert.labels.iter().chain(&alert.annotations);
    let texts = pairs.flat_map(|(name, text)| [name, text]).chain(&alert.links);
    texts.map(String::len).sum()
}
