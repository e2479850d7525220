//! What stands in the audit, in words: each action has a stable name, and what people call it.

use super::words::{Words, en};

/// Every action and what it is called.
#[rustfmt::skip]
pub(super) const ACTIONS: &[(&str, &str)] = &[
    ("approval-declined", en("declined what was asked of a deployment")),
    ("approval-given", en("approved what was asked of a deployment")),
    ("approval-overtaken", en("overtook what was asked of a deployment")),
    ("approval-requested", en("asked for approval of a deployment")),
    ("asset-changed", en("corrected an asset")),
    ("assets-imported", en("imported assets")),
    ("assignments-imported", en("imported a list of hand-outs")),
    ("cap-changed", en("changed the cap of a deployment")),
    ("cap-reached", en("a cap held machines back")),
    ("claim-refused", en("refused a second machine with the same names")),
    ("class-removed", en("removed a class")),
    ("class-stored", en("stored a class")),
    ("collection-stored", en("stored a collection")),
    ("content-collected", en("removed content that nothing needs")),
    ("content-verified", en("verified the content")),
    ("decision-carried-out", en("carried out a decision about quarantine")),
    ("deployment-cancelled", en("cancelled a deployment for a machine")),
    ("deployment-changed", en("changed a deployment")),
    ("deployment-resumed", en("resumed a deployment")),
    ("deployment-stopped", en("stopped a deployment")),
    ("deployment-stored", en("made a deployment")),
    ("deployment-uncancelled", en("took a cancellation back")),
    ("device-handed-out", en("handed a machine out")),
    ("asset-restored", en("took a machine back into use")),
    ("asset-retired", en("retired a machine")),
    ("asset-stolen", en("reported a machine stolen")),
    ("device-taken-back", en("took a machine back from a pupil")),
    ("devices-named", en("assigned names to machines")),
    ("exclusions-changed", en("changed who is kept out of a collection")),
    ("hand-out-undone", en("undid a hand-out")),
    ("import-accepted", en("accepted an import")),
    ("import-discarded", en("discarded an import")),
    ("import-profile-removed", en("removed an import profile")),
    ("import-profile-saved", en("saved an import profile")),
    ("import-undone", en("took an import back")),
    ("import-uploaded", en("uploaded an asset file")),
    ("key-added", en("added a key that signs")),
    ("key-bound", en("bound a key to a machine")),
    ("key-reset", en("reset the key of a machine")),
    ("key-retired", en("retired a key that signs")),
    ("key-used", en("had another key sign")),
    ("language-chosen", en("chose a language")),
    ("left-collection", en("left a collection when it was done")),
    ("model-alias-removed", en("forgot a vendor's name for a model")),
    ("model-alias-set", en("told a vendor's name for a model")),
    ("members-changed", en("changed the members of a collection")),
    ("order-refused", en("refused an order")),
    ("package-published", en("published a package")),
    ("password-changed", en("changed their own password")),
    ("password-reset", en("reset the password of a user")),
    ("prestage-built", en("built a prestage")),
    ("prestage-defined", en("defined a prestage")),
    ("prestage-signed", en("brought the signature of a prestage")),
    ("pupil-added", en("added a pupil")),
    ("pupil-changed", en("changed a pupil")),
    ("pupil-erased", en("erased a pupil")),
    ("pupil-exported", en("exported what is kept of a pupil")),
    ("pupils-imported", en("imported a list of pupils")),
    ("quarantine-decided", en("decided about a machine in quarantine")),
    ("quarantine-undecided", en("took a decision about quarantine back")),
    ("quarantined", en("was put into quarantine")),
    ("receipt-stored", en("stored a receipt")),
    ("receipts-imported", en("imported receipts")),
    ("return-undone", en("undid a return")),
    ("role-changed", en("changed the role of a user")),
    ("rule-stored", en("changed the rule of a collection")),
    ("run-ordered", en("was ordered to run")),
    ("run-rerun", en("had a machine run everything again")),
    ("run-retried", en("had a failed run go on")),
    ("run-started", en("started a deployment on a machine")),
    ("run-stopped", en("stopped a run")),
    ("secret-released", en("was given a secret")),
    ("secret-removed", en("removed a secret")),
    ("secret-set", en("set a secret")),
    ("sequence-changed", en("changed a task sequence")),
    ("settings-stored", en("changed the settings")),
    ("sign-in-refused", en("a sign-in was refused")),
    ("signed-in", en("signed in")),
    ("site-changed", en("changed the site of machines")),
    ("site-removed", en("removed a site")),
    ("site-stored", en("stored a site")),
    ("stolen-seen", en("a stolen machine was heard of")),
    ("token-made", en("made a token")),
    ("token-revoked", en("revoked a token")),
    ("user-made", en("made a user")),
    ("user-removed", en("removed a user")),
    ("variables-changed", en("changed variables")),
    ("view-deleted", en("removed a saved view")),
    ("view-saved", en("saved a view")),
    ("warrants-added", en("brought warrants for a deployment")),
    ("webhook-added", en("added a webhook")),
    ("webhook-changed", en("changed a webhook")),
    ("webhook-paused", en("paused a webhook")),
    ("webhook-removed", en("removed a webhook")),
    ("webhook-resent", en("sent a webhook's message again")),
    ("webhook-resumed", en("resumed a webhook")),
    ("webhook-secret-made", en("made a new secret for a webhook")),
    ("webhook-tested", en("sent a test message to a webhook")),
];

/// What an action is called; none if an earlier release knew it and this one doesn't.
pub(super) fn of(words: Words, action: &str) -> Option<&'static str> {
    let known = ACTIONS.iter().find(|(name, _)| *name == action);
    known.map(|(_, text)| words.t(text))
}

/// Every action with its words, as a list in this language has them.
pub(super) fn in_order(words: Words) -> Vec<(&'static str, &'static str)> {
    let all = ACTIONS.iter().map(|(name, text)| (*name, words.t(text)));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, text)| *text);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::ACTIONS;

    fn sources(folder: &Path, found: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("audit_words.rs")
            {
                found.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    /// The literal that is the third of what a call of `audit` gets.
    fn action(call: &str) -> Option<&str> {
        let third = call.split(',').nth(2)?.trim();
        third.strip_prefix('"')?.strip_suffix('"')
    }

    #[test]
    fn whatever_is_audited_has_words_and_all_words_are_of_something_audited() {
        let mut source = String::new();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        sources(Path::new(folder), &mut source);
        let known: BTreeSet<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(known.len(), ACTIONS.len(), "an action stands twice");
        let calls = source.split(" audit(").skip(1);
        let audited: BTreeSet<&str> = calls.filter_map(action).collect();
        assert!(
            audited.len() > 50,
            "calls aren't found any more: {audited:?}"
        );
        for action in &audited {
            assert!(known.contains(action), "{action} has no words");
        }
        for name in known {
            assert!(
                source.contains(&format!("\"{name}\"")),
                "nothing is audited as {name}"
            );
        }
    }

    #[test]
    fn the_action_is_found_in_a_call() {
        assert_eq!(
            action("&mut db, &user.name, \"site-stored\", code, \"\")"),
            Some("site-stored")
        );
        assert_eq!(
            action("\n        db,\n        who,\n        \"a-b\",\n        x)"),
            Some("a-b")
        );
        assert_eq!(action("db, who, action, subject, detail)"), None);
    }
}
