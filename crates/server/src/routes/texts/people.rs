//! Signing in, accounts, tokens, the audit.

use serde_json::Value;
use wire::admin_api::{AuditRow, Login, Token};
use wire::audit::{AuditHead, AuditVerified};
use wire::boot_config::Trust;
use wire::people::{
    LanguageChange, Me, NewToken, NewUser, OneTimePassword, PasswordChange, RoleChange, TokenMade,
    TokenRow, UserRow,
};

use crate::routes::docs::Texts;

#[rustfmt::skip]
pub(super) fn texts(texts: Texts) -> Texts {
    texts
        .of("POST", "/api/v1/login", "Exchange user and password for an API token.", "The token ends after 90 days.")
        .takes::<Login>(r#"{"user":"admin","password":"correct horse battery","token-name":"my laptop"}"#)
        .answers::<Token>("")
        .fails(400, "bad-json", "What was sent is no login.")
        .fails(401, "wrong-login", "The name or the password is wrong.")
        .fails(403, "new-password-needed", "The password is a one-time password: send `new-password` too.")
        .fails(422, "new-password-unfit", "The new password is too short, too long, or the one-time password.")
        .fails(429, "too-many-logins", "Too many wrong tries from this address.")
        .of("GET", "/api/v1/trust", "Tell whom devices trust, and where they call home.", "")
        .answers::<Trust>("")
        .of("GET", "/api/v1/openapi.json", "Describe this API as an OpenAPI 3.1 document.", "")
        .answers::<Value>("")
        .of("GET", "/healthz", "Say that the server is alive.", "")
        .answers_bytes("text/plain")
        .of("GET", "/api/v1/me", "Tell who is asking and what this credential may do.", "")
        .answers::<Me>("")
        .of("POST", "/api/v1/me/password", "Change one's own password.", "All sessions of the pages end; tokens stay.")
        .takes::<PasswordChange>(r#"{"password":"correct horse battery","new-password":"a longer sentence"}"#)
        .fails(401, "wrong-login", "The password so far is wrong.")
        .fails(422, "new-password-unfit", "The new password is too short or too long.")
        .fails(429, "too-many-logins", "Too many wrong tries from this address.")
        .of("PUT", "/api/v1/me/language", "Choose the language of the pages.", "An empty text stands for the browser's.")
        .takes::<LanguageChange>(r#"{"language":"nb"}"#)
        .answers::<Me>("")
        .fails(400, "bad-language", "The pages don't speak it.")
        .of("GET", "/api/v1/users", "List the accounts.", "")
        .answers::<Vec<UserRow>>(r#"[{"name":"kari","role":"school-admin","site":"BJO","created-at-ms":1790000000000}]"#)
        .whole()
        .of("POST", "/api/v1/users", "Make an account.", "It gets a one-time password, which is shown once.")
        .takes::<NewUser>(r#"{"name":"kari","role":"school-admin","site":"BJO"}"#)
        .answers::<OneTimePassword>("")
        .fails(400, "no-site", "The role needs a site, or can't have one.")
        .fails(409, "exists", "There is an account of this name already.")
        .of("PUT", "/api/v1/users/{name}/role", "Change what someone is.", "It counts from their next request on.")
        .takes::<RoleChange>(r#"{"role":"factory-operator","prestages":["book-14"]}"#)
        .answers::<UserRow>("")
        .fails(409, "last-admin", "There would be no admin with a password of this server any more.")
        .of("POST", "/api/v1/users/{name}/reset-password", "Give someone a new one-time password.", "Their sessions and tokens end at once.")
        .answers::<OneTimePassword>("")
        .fails(409, "no-password", "They sign in at an identity provider.")
        .of("DELETE", "/api/v1/users/{name}", "Remove an account.", "Its sessions and tokens end at once; what it did stays in the audit.")
        .fails(409, "last-admin", "There would be no admin with a password of this server any more.")
        .fails(409, "yourself", "Nobody can remove the account they use.")
        .of("GET", "/api/v1/tokens", "List API tokens.", "One's own; an admin sees all.")
        .answers::<Vec<TokenRow>>("")
        .whole()
        .of("POST", "/api/v1/tokens", "Make an API token for oneself.", "It may do at most what the credential used may do. Its secret is shown once.")
        .takes::<NewToken>(r#"{"title":"asset system","scopes":["view"],"days":365}"#)
        .answers::<TokenMade>("")
        .fails(400, "bad-scope", "There is no such scope.")
        .fails(409, "too-many-tokens", "There are 100 already.")
        .of("DELETE", "/api/v1/tokens/{id}", "Revoke an API token.", "One's own; an admin revokes any. `current` is the token that the request comes with.")
        .of("GET", "/api/v1/audit", "Tell who did what.", "Newest first, 5000 rows at most. Filters are combined.")
        .query("who", "Who did it: a user, `device` or `server`.")
        .query("action", "What was done, such as `asset-imported`.")
        .query("subject", "To what, exactly.")
        .query("address", "From where it was asked for: an IP address, or a subnet such as `10.17.0.0/16`.")
        .query("text", "A part of any field, whatever its case.")
        .query("from-ms", "Not before this time.")
        .query("to-ms", "Before this time.")
        .query("order", "`oldest` for the oldest first.")
        .answers::<Vec<AuditRow>>("")
        .fails(400, "bad-address", "It is neither an address nor a subnet.")
        .fails(400, "bad-cursor", "The cursor isn't one of this list.")
        .paged()
        .of("GET", "/api/v1/audit/verify", "Go along the audit's chain, and say whether it is sound or where it breaks.", "Whoever can change the server can change this answer: a program outside of it goes along the rows themselves.")
        .query("head", "A head that was noted earlier, `NUMBER:DIGEST`: it must be part of the chain.")
        .answers::<AuditVerified>(r#"{"head":{"number":2,"digest":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},"noted":false,"broken":{"row":3,"why":"row 3 was changed, or a row before it was replaced: its digest doesn't fit"}}"#)
        .fails(400, "bad-head", "It isn't a number, a colon and a digest.")
        .of("GET", "/api/v1/audit/head", "Tell the end of the audit's chain.", "Note it elsewhere: later it shows whether rows were changed.")
        .answers::<AuditHead>("")
}
