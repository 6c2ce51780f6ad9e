//! What is wrong with the handle of a target.

use super::validate::{Finding, finding};
use crate::target::ProcessHandle;

pub(super) fn process_findings(process: &ProcessHandle, path: &str, found: &mut Vec<Finding>) {
    if process.command.is_empty() {
        let hint = "name the program and its arguments as a list";
        found.push(finding(format!("{path}.command"), "the command is empty", hint));
    }
    for (field, name) in [("user", &process.user), ("group", &process.group)] {
        let Some(name) = name else { continue };
        if name.is_empty() || name.contains([':', '/', ',']) || name.contains(char::is_whitespace) {
            let message = format!("`{name}` is not the name of a {field}");
            let hint = "name one of the fixer's host, such as `www-data`, or its number";
            found.push(finding(format!("{path}.{field}"), message, hint));
        }
    }
    if process.group.is_some() && process.user.is_none() {
        let message = "a `group` needs a `user`";
        found.push(finding(format!("{path}.group"), message, "name the `user` that it runs as"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn a_user_is_a_name_or_a_number_and_a_group_needs_one() {
        for (handle, wrong) in [
            ("{command: [x], user: www-data}", None),
            ("{command: [x], user: \"33\", group: logs}", None),
            ("{command: [x], user: \"\"}", Some("not the name of a user")),
            ("{command: [x], user: \"a b\"}", Some("not the name of a user")),
            ("{command: [x], user: shop, group: \"a:b\"}", Some("not the name of a group")),
            ("{command: [x], group: logs}", Some("needs a `user`")),
            ("{command: []}", Some("command is empty")),
        ] {
            let parsed = parse(&format!("targets: [{{name: shop, process: {handle}}}]"));
            match (parsed, wrong) {
                (Ok(_), None) => {}
                (Err(errors), Some(wrong)) => {
                    let told = format!("{errors:?}");
                    assert!(told.contains(wrong), "{handle}: {told}");
                }
                (parsed, _) => panic!("{handle}: {parsed:?}"),
            }
        }
    }
}
