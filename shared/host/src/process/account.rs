//! The user that a target runs as.
//!
//! Users and groups are looked up in `/etc/passwd` and `/etc/group`; those of a directory service
//! are given as numbers. A fixer that is not root needs `CAP_SETUID` and `CAP_SETGID`, which
//! nothing that it starts inherits.

use std::{fs, io};

use domain::target::ProcessHandle;
use rustix::{
    process::{Gid, Uid, getegid, geteuid},
    thread::{
        CapabilitySet, capabilities, clear_ambient_capability_set,
        configure_capability_in_ambient_set, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};
use serde::{Deserialize, Serialize};

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// What a change of the user takes.
const NEEDED: [CapabilitySet; 2] = [CapabilitySet::SETUID, CapabilitySet::SETGID];

/// A user with the groups that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    uid: u32,
    gid: u32,
    /// All its groups.
    groups: Vec<u32>,
    name: String,
    home: String,
}

/// Why a process cannot run as a user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such user.
    #[error("there is no user `{0}` on this host")]
    NoUser(String),
    /// There is no such group.
    #[error("there is no group `{0}` on this host")]
    NoGroup(String),
    /// A number that no user has, without a group.
    #[error("no user of this host has the number {0}, so its group is not known")]
    GroupNeeded(u32),
    /// The list of users or groups cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The list.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// We may not do so.
    #[error("the fixer runs as user {ours} and may not start anything as user `{user}`")]
    NotPermitted {
        /// Our number.
        ours: u32,
        /// The user.
        user: String,
    },
}

impl Error {
    /// Returns what the reader can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoUser(_) => {
                "create it, or correct `user` of the handle; give the number of one that is not in /etc/passwd"
            }
            Self::NoGroup(_) => {
                "create it, or correct `group` of the handle; give the number of one that is not in /etc/group"
            }
            Self::GroupNeeded(_) => "name a `group` in the handle, too",
            Self::Unreadable { .. } => "see the permissions of this file",
            Self::NotPermitted { .. } => {
                "start the fixer as root or with the capabilities CAP_SETUID and CAP_SETGID, as deploy/systemd does, or leave `user` out of the handle"
            }
        }
    }
}

impl Account {
    /// Returns the account that a handle names, if it names one, and only if a process may be
    /// started as it.
    ///
    /// # Errors
    ///
    /// [`Error`] when there is none, or when we may not.
    pub fn of(handle: &ProcessHandle) -> Result<Option<Self>, Error> {
        let Some(user) = &handle.user else { return Ok(None) };
        let read =
            |path| fs::read_to_string(path).map_err(|source| Error::Unreadable { path, source });
        let found = Self::find(user, handle.group.as_deref(), &read(USERS)?, &read(GROUPS)?)?;
        if !found.is_ours() && !may_change() {
            let ours = geteuid().as_raw();
            return Err(Error::NotPermitted { ours, user: user.clone() });
        }
        Ok(Some(found))
    }

    fn find(user: &str, group: Option<&str>, users: &str, groups: &str) -> Result<Self, Error> {
        let named = |it: &Entry<'_>| it.name == user;
        let number = user.parse().ok();
        let numbered = |it: &Entry<'_>| Some(it.number) == number;
        let entry = entries(users).find(named).or_else(|| entries(users).find(numbered));
        let uid = match (&entry, number) {
            (Some(entry), _) => entry.number,
            (None, Some(number)) => number,
            (None, None) => return Err(Error::NoUser(user.to_owned())),
        };
        let own_group = || entry.as_ref().and_then(|it| it.rest.first()?.parse().ok());
        let gid = match group {
            Some(group) => entries(groups)
                .find(|it| it.name == group)
                .map(|it| it.number)
                .or_else(|| group.parse().ok())
                .ok_or_else(|| Error::NoGroup(group.to_owned()))?,
            None => own_group().ok_or(Error::GroupNeeded(uid))?,
        };
        let name = entry.as_ref().map_or(user, |it| it.name);
        let is_member = |it: &Entry<'_>| {
            it.rest.first().is_some_and(|members| members.split(',').any(|it| it == name))
        };
        let mut all: Vec<u32> = entries(groups).filter(is_member).map(|it| it.number).collect();
        all.push(gid);
        all.sort_unstable();
        all.dedup();
        let home = entry.as_ref().and_then(|it| it.rest.get(2).copied()).unwrap_or("/");
        Ok(Self { uid, gid, groups: all, name: name.to_owned(), home: home.to_owned() })
    }

    fn is_ours(&self) -> bool {
        self.uid == geteuid().as_raw() && self.gid == getegid().as_raw()
    }

    /// Returns the variables that tell a program who it is.
    pub(super) fn variables(&self) -> [(&'static str, &str); 3] {
        [("HOME", &self.home), ("USER", &self.name), ("LOGNAME", &self.name)]
    }

    /// Becomes this user, with all its groups, for ever. To be called in a process of one thread.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub(super) fn assume(&self) -> io::Result<()> {
        if self.is_ours() {
            return Ok(());
        }
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        let gid = Gid::from_raw(self.gid);
        set_thread_res_gid(gid, gid, gid)?;
        let uid = Uid::from_raw(self.uid);
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }
}

/// A line of a list of users or groups: name, password, number, and what else there is.
struct Entry<'a> {
    name: &'a str,
    number: u32,
    rest: Vec<&'a str>,
}

fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let number = fields.next()?.parse().ok()?;
        Some(Entry { name, number, rest: fields.collect() })
    })
}

/// Returns whether this process may become any user.
fn may_change() -> bool {
    let needed = NEEDED.into_iter().fold(CapabilitySet::empty(), |all, it| all | it);
    capabilities(None).is_ok_and(|it| it.effective.contains(needed))
}

/// Lets nothing that this thread starts inherit what this process may do.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn keep_capabilities() -> io::Result<()> {
    Ok(clear_ambient_capability_set()?)
}

/// While this lives, what this thread starts may change its user, if this process may.
#[derive(Debug)]
pub(super) struct Lent;

impl Lent {
    /// Lends what a starter needs to become another user.
    pub(super) fn begin() -> Self {
        for capability in NEEDED {
            // As root all is inherited anyhow; whoever may not lend it has none to lend.
            if let Err(error) = configure_capability_in_ambient_set(capability, true) {
                tracing::debug!(%error, ?capability, "a capability is not passed on");
            }
        }
        Self
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Err(error) = keep_capabilities() {
            tracing::debug!(%error, "capabilities cannot be kept back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\n# a remark\n\
                         shop:x:1001:1002:The shop:/srv/shop:/bin/false\nbroken\n";
    const GROUPS: &str = "root:x:0:\nshop:x:1002:\nlogs:x:1010:other,shop\nshops:x:1011:shopper\n\
                          docker:x:999:shop\n";

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        for (user, group, uid, gid, groups) in [
            ("shop", None, 1001, 1002, vec![999, 1002, 1010]),
            ("1001", None, 1001, 1002, vec![999, 1002, 1010]),
            ("shop", Some("logs"), 1001, 1010, vec![999, 1010]),
            ("shop", Some("77"), 1001, 77, vec![77, 999, 1010]),
            ("4242", Some("shop"), 4242, 1002, vec![1002]),
            ("root", None, 0, 0, vec![0]),
        ] {
            let found = Account::find(user, group, USERS, GROUPS).unwrap();
            assert_eq!(
                (found.uid, found.gid, found.groups),
                (uid, gid, groups),
                "{user} {group:?}"
            );
        }
        let shop = Account::find("shop", None, USERS, GROUPS).unwrap();
        assert_eq!(
            shop.variables(),
            [("HOME", "/srv/shop"), ("USER", "shop"), ("LOGNAME", "shop")]
        );
    }

    #[test]
    fn who_is_not_there_is_told() {
        let told = |user, group| Account::find(user, group, USERS, GROUPS).unwrap_err().to_string();
        assert!(told("nobody-here", None).contains("`nobody-here`"));
        assert!(told("shop", Some("nothing")).contains("`nothing`"));
        assert!(told("4242", None).contains("4242"));
        assert!(told("-1", None).contains("`-1`"));
    }

    #[test]
    fn a_handle_without_a_user_changes_nothing() {
        let handle = |user: Option<&str>| {
            let handle = serde_json::json!({"command": ["true"], "user": user});
            serde_json::from_value::<ProcessHandle>(handle).unwrap()
        };
        assert_eq!(Account::of(&handle(None)).unwrap(), None);
        let ours = geteuid().as_raw().to_string();
        if let Ok(Some(found)) = Account::of(&handle(Some(&ours))) {
            assert_eq!(found.uid, geteuid().as_raw());
        }
        assert!(matches!(Account::of(&handle(Some("no-such-user"))), Err(Error::NoUser(_))));
    }
}
