//! The list of incidents as a table.

use chrono::{DateTime, Utc};
use domain::view::{IncidentView, Page};

use super::{cut, short, tone};
use crate::terminal::{ago, plain, table, toned};

/// Longest text of the last column.
const TEXT_CHARS_MAX: usize = 64;

/// Returns the page as people read it.
pub(super) fn text(page: &Page, now: DateTime<Utc>) -> String {
    if page.incidents.is_empty() {
        return "no matching incidents".to_owned();
    }
    let rows = page.incidents.iter().map(|it| row(it, now)).collect();
    let mut text =
        table(&["ID", "STATUS", "TYPE", "TARGET", "OPENED", "EVENTS", "FIXES", "SUMMARY"], rows);
    let n_more = page.total.saturating_sub(page.incidents.len());
    if 0 < n_more {
        text.push('\n');
        text.push_str(&n_more.to_string());
        text.push_str(" more; see --limit");
    }
    text
}

fn row(it: &IncidentView, now: DateTime<Utc>) -> Vec<String> {
    // What is wanted of a person comes before what is known.
    let known = it.waiting.as_ref().or(it.resolution.as_ref()).or(it.analysis.as_ref());
    vec![
        short(it.id),
        toned(tone(it.status), it.status.as_str()),
        plain(&it.kind),
        plain(it.target.as_deref().unwrap_or("-")),
        ago(it.opened_at, now),
        it.count.to_string(),
        fixes(it),
        plain(&cut(known.map_or("", String::as_str), TEXT_CHARS_MAX)),
    ]
}

/// The first start of a target is no repair.
fn fixes(it: &IncidentView) -> String {
    match (it.bring_up, it.attempt) {
        (true, 0 | 1) => "bring-up".to_owned(),
        (true, n) => format!("{n} (bring-up)"),
        (false, n) => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::sample;

    #[test]
    fn a_row_says_what_it_is_where_it_stands_and_since_when() {
        let page = Page { incidents: vec![sample::view()], next: None, total: 3 };
        let now = sample::view().opened_at + chrono::TimeDelta::minutes(5);
        let shown = plain(&text(&page, now));
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        for word in ["0000000000ab", "resolved", "service_down", "database", "5m ago", "restarted"]
        {
            assert!(lines[1].contains(word), "{shown}");
        }
        assert_eq!(lines[2], "2 more; see --limit");
    }

    #[test]
    fn the_first_start_of_a_target_is_shown_as_a_bring_up() {
        let view = IncidentView { attempt: 1, bring_up: true, ..sample::view() };
        let page = Page { incidents: vec![view], next: None, total: 1 };
        assert!(plain(&text(&page, sample::view().opened_at)).contains(" bring-up "));
        let again = IncidentView { attempt: 2, bring_up: true, ..sample::view() };
        assert_eq!(fixes(&again), "2 (bring-up)");
        assert_eq!(fixes(&sample::view()), sample::view().attempt.to_string());
    }

    #[test]
    fn an_empty_list_says_so() {
        assert_eq!(text(&Page::default(), Utc::now()), "no matching incidents");
    }
}
