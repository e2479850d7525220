//! What a caller may do, and whose machines they see. The table of [`Role::may`] is the whole truth: routes and pages name
//! what they ask for, and the matrix test derives from both what every answer must be.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
pub use wire::people::Role;

use crate::error::Failure;
use crate::people::auth::{DeviceSession, User};

/// What a route or a page asks of its caller. Each route names exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum May {
    /// Nothing: the route is public.
    Anyone,
    /// To be a device that has checked in.
    BeDevice,
    /// To be somebody: one's own account, password and tokens.
    BeSomebody,
    /// To see devices, runs, and what they run; never pupils.
    View,
    /// To see who has which device.
    ViewPupils,
    /// To hand devices out and take them back.
    Assign,
    /// To stop, retry and repeat runs.
    Operate,
    /// To import and correct assets, and to decide who a machine is.
    ChangeAssets,
    /// To see receipts: those of the machines in reach, or the ones sent by oneself.
    SeeReceipts,
    /// To send the factory's receipts.
    SendReceipts,
    /// To see which prestages were built: all, or those assigned to oneself.
    SeePrestages,
    /// To fetch bundles for media.
    FetchBundles,
    /// To change sites, classes, collections, deployments, variables.
    Deploy,
    /// To publish content, sequences and prestages.
    Publish,
    /// To read what the server counts of itself.
    ReadMetrics,
    /// To change users, tokens, webhooks and settings, and to read the audit.
    Administer,
}

impl May {
    /// All that a role can allow, and a token's scopes can name.
    pub const SCOPES: &'static [Self] = &[
        Self::View,
        Self::ViewPupils,
        Self::Assign,
        Self::Operate,
        Self::ChangeAssets,
        Self::SeeReceipts,
        Self::SendReceipts,
        Self::SeePrestages,
        Self::FetchBundles,
        Self::Deploy,
        Self::Publish,
        Self::ReadMetrics,
        Self::Administer,
    ];

    /// How a token's scopes, the API reference and error messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::BeDevice => "device",
            Self::BeSomebody => "somebody",
            Self::View => "view",
            Self::ViewPupils => "view-pupils",
            Self::Assign => "assign",
            Self::Operate => "operate",
            Self::ChangeAssets => "change-assets",
            Self::SeeReceipts => "see-receipts",
            Self::SendReceipts => "send-receipts",
            Self::SeePrestages => "see-prestages",
            Self::FetchBundles => "fetch-bundles",
            Self::Deploy => "deploy",
            Self::Publish => "publish",
            Self::ReadMetrics => "read-metrics",
            Self::Administer => "administer",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::SCOPES.iter().copied().find(|may| may.name() == name)
    }
}

/// What someone with this role may do.
#[must_use]
pub const fn allowed(role: Role) -> &'static [May] {
    use May::{
        Assign, ChangeAssets, FetchBundles, Operate, SeePrestages, SeeReceipts, SendReceipts, View,
        ViewPupils,
    };
    match role {
        Role::Admin => May::SCOPES,
        Role::SchoolAdmin => &[View, ViewPupils, Assign, Operate, SeePrestages, SeeReceipts],
        Role::AssetClerk => &[
            View,
            ViewPupils,
            Assign,
            ChangeAssets,
            SeePrestages,
            SeeReceipts,
            SendReceipts,
        ],
        Role::FactoryOperator => &[SeePrestages, FetchBundles, SeeReceipts, SendReceipts],
        Role::Viewer => &[View, SeePrestages, SeeReceipts],
    }
}

/// Whose machines someone sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Those of all sites.
    Everywhere,
    /// Those of the site with this code. All others don't exist for them.
    Site(String),
    /// None at all.
    Nowhere,
}

impl Reach {
    /// What a role sees, given the site that the account names.
    #[must_use]
    pub fn of(role: Role, site: &str) -> Self {
        match (role, site) {
            (Role::Admin, _) => Self::Everywhere,
            (Role::FactoryOperator, _) | (Role::SchoolAdmin, "") => Self::Nowhere,
            (Role::AssetClerk | Role::Viewer, "") => Self::Everywhere,
            (_, site) => Self::Site(site.to_owned()),
        }
    }

    /// Whether a machine of this site is seen. A machine without a site, such as one in quarantine, is seen by those who
    /// see everything.
    #[must_use]
    pub fn covers(&self, site: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Site(own) => own == site,
            Self::Nowhere => false,
        }
    }
}

/// Lets a request pass if its caller may do what the route asks. Who is calling was found out by
/// [`super::auth::require_user`]; devices never get here with a [`User`], nor people without one.
pub(crate) async fn admit(may: May, request: Request, next: Next) -> Response {
    let user = request.extensions().get::<User>();
    let allowed = match may {
        May::Anyone => true,
        May::BeDevice => request.extensions().get::<DeviceSession>().is_some(),
        may => user.is_some_and(|user| user.may(may)),
    };
    if allowed {
        return next.run(request).await;
    }
    let message = match user {
        Some(user) if user.is_scoped() && user.role_may(may) => {
            format!("this token's scopes don't name `{}`", may.name())
        }
        Some(user) => format!("the role {} doesn't allow `{}`", user.role, may.name()),
        None => "this is not for you".to_owned(),
    };
    Failure::refused(StatusCode::FORBIDDEN, "forbidden", message)
        .hint("ask an administrator")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::{May, Reach, Role, allowed};

    #[test]
    fn the_table_of_roles_says_what_the_documentation_says() {
        let documented = [
            (
                Role::Admin,
                "view view-pupils assign operate change-assets see-receipts send-receipts see-prestages \
                 fetch-bundles deploy publish read-metrics administer",
            ),
            (
                Role::SchoolAdmin,
                "view view-pupils assign operate see-prestages see-receipts",
            ),
            (
                Role::AssetClerk,
                "view view-pupils assign change-assets see-prestages see-receipts send-receipts",
            ),
            (
                Role::FactoryOperator,
                "see-prestages fetch-bundles see-receipts send-receipts",
            ),
            (Role::Viewer, "view see-prestages see-receipts"),
        ];
        for (role, expected) in documented {
            let names: Vec<&str> = allowed(role).iter().map(|may| may.name()).collect();
            assert_eq!(names.join(" "), expected, "{role}");
        }
    }

    #[test]
    fn only_admins_administer_and_nobody_but_those_who_hand_out_sees_pupils() {
        for role in Role::ALL {
            assert_eq!(
                allowed(role).contains(&May::Administer),
                role == Role::Admin
            );
            assert_eq!(
                allowed(role).contains(&May::ViewPupils),
                allowed(role).contains(&May::Assign),
                "{role}"
            );
        }
    }

    #[test]
    fn a_role_reaches_no_further_than_its_site() {
        let check = |role, site, of| Reach::of(role, site).covers(of);
        for (role, site, of, expected) in [
            (Role::Admin, "", "BJO", true),
            (Role::Admin, "TRO", "BJO", true),
            (Role::SchoolAdmin, "BJO", "BJO", true),
            (Role::SchoolAdmin, "BJO", "TRO", false),
            (Role::SchoolAdmin, "BJO", "", false),
            // An account that someone forgot to give a site sees nothing, rather than everything.
            (Role::SchoolAdmin, "", "BJO", false),
            (Role::SchoolAdmin, "", "", false),
            (Role::Viewer, "", "BJO", true),
            (Role::Viewer, "BJO", "TRO", false),
            (Role::AssetClerk, "", "", true),
            (Role::FactoryOperator, "BJO", "BJO", false),
        ] {
            assert_eq!(
                check(role, site, of),
                expected,
                "{role} of {site:?} sees {of:?}"
            );
        }
    }

    #[test]
    fn scopes_have_names_of_their_own() {
        for may in May::SCOPES {
            assert_eq!(May::of_name(may.name()), Some(*may));
        }
        assert_eq!(May::of_name("anyone"), None);
    }
}
