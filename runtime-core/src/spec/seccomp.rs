//! `linux.seccomp` of config-linux.md.

use super::objects::objects;

objects! {
    /// System call filter (config-linux.md, "Seccomp").
    Seccomp {
        must {
            /// `SCMP_ACT_` name for calls that no rule names.
            "defaultAction" default_action: String,
        }
        option {
            /// Number for a default action that takes one.
            "defaultErrnoRet" default_errno_ret: u32,
            /// `SECCOMP_FILTER_FLAG_` names. Absent is not the same as empty: runc sets SPEC_ALLOW when absent.
            "flags" flags: Vec<String>,
            /// Socket that receives the listener.
            "listenerPath" listener_path: String,
            /// Text for the receiver.
            "listenerMetadata" listener_metadata: String,
        }
        many {
            /// `SCMP_ARCH_` names beside the machine's own.
            "architectures" architectures: Vec<String>,
            /// Rules.
            "syscalls" syscalls: Vec<SeccompRule>,
        }
    }

    /// What happens to some calls.
    SeccompRule {
        must {
            /// `SCMP_ACT_` name.
            "action" action: String,
        }
        option {
            /// Number for an action that takes one.
            "errnoRet" errno_ret: u32,
        }
        many {
            /// Names of system calls.
            "names" names: Vec<String>,
            /// Comparisons that all have to hold.
            "args" args: Vec<SeccompArg>,
        }
    }

    /// A comparison of one argument.
    SeccompArg {
        must {
            /// 0 to 5.
            "index" index: u32,
            /// What to compare with; the mask of `SCMP_CMP_MASKED_EQ`.
            "value" value: u64,
            /// `SCMP_CMP_` name.
            "op" op: String,
        }
        option {
            /// The value of `SCMP_CMP_MASKED_EQ`.
            "valueTwo" value_two: u64,
        }
    }
}
