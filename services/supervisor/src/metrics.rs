//! The metrics of a supervisor.

use service::Metric;

/// What a supervisor counts. What is said of the leader, others do not count, or say 0: sums
/// over all supervisors are right, also across a change of leader.
pub const METRICS: [Metric; 39] = [
    Metric::gauge("selfheal_supervisor_leading", &[], "1 when it leads."),
    Metric::counter(
        "selfheal_supervisor_inputs_total",
        &["kind"],
        "Decided inputs; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_supervisor_rejected_total",
        &["reason"],
        "Inputs that could not be understood; counted by the leader.",
    ),
    Metric::histogram(
        "selfheal_supervisor_batch_seconds",
        &[],
        "From the first input of a batch to the begin of its append.",
    ),
    Metric::gauge(
        "selfheal_supervisor_recovery_seconds",
        &[],
        "How long the last start took to fold what is stored.",
    ),
    Metric::counter(
        "selfheal_supervisor_snapshots_total",
        &["result"],
        "Snapshots, stored or failed; counted by the leader.",
    ),
    Metric::gauge("selfheal_supervisor_snapshot_bytes", &[], "Size of the last snapshot."),
    Metric::gauge(
        "selfheal_supervisor_log_missing_lines",
        &[],
        "Lines that its log lacks and no other supervisor has given yet.",
    ),
    Metric::gauge(
        "selfheal_supervisor_log_waiting_lines",
        &[],
        "Lines that wait for a disk that takes none.",
    ),
    Metric::gauge(
        "selfheal_supervisor_inbox_lag_messages",
        &[],
        "Messages of the inbox that it has not decided or folded yet.",
    ),
    Metric::gauge(
        "selfheal_supervisor_disk_free_bytes",
        &[],
        "Room on the disk of its data directory.",
    ),
    Metric::gauge(
        "selfheal_supervisor_disk_size_bytes",
        &[],
        "Size of the disk of its data directory.",
    ),
    Metric::gauge(
        "selfheal_stream_size_bytes",
        &["stream"],
        "Bytes in a stream of the broker; asked by the leader.",
    ),
    Metric::gauge(
        "selfheal_stream_limit_bytes",
        &["stream"],
        "Bytes at which a stream of the broker refuses; asked by the leader.",
    ),
    Metric::counter(
        "selfheal_supervisor_ledger_unlogged_total",
        &[],
        "How often a full ledger was shortened although the log lacked the lines; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_supervisor_ledger_foreign_total",
        &[],
        "Messages of the ledger that no supervisor has written, and that were passed over.",
    ),
    Metric::counter(
        "selfheal_supervisor_ledger_cut_total",
        &[],
        "Messages of the ledger whose predecessor was removed or replaced.",
    ),
    Metric::gauge("selfheal_agents", &["kind"], "Living processes of ours; seen by the leader."),
    Metric::gauge("selfheal_paused", &[], "1 while a person has stopped new fixes; the leader."),
    Metric::gauge(
        "selfheal_breaker_open",
        &[],
        "1 while the circuit breaker holds new fixes; the leader.",
    ),
    Metric::gauge(
        "selfheal_incidents_open",
        &["status", "severity"],
        "Open incidents; the leader.",
    ),
    Metric::gauge(
        "selfheal_work_pending",
        &["kind"],
        "Pieces of work that are wanted and not reported; the leader.",
    ),
    Metric::gauge(
        "selfheal_work_oldest_seconds",
        &["kind"],
        "Since when the oldest of them is wanted; the leader.",
    ),
    Metric::counter(
        "selfheal_incidents_opened_total",
        &["severity"],
        "Incidents that were opened; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_incidents_ended_total",
        &["status"],
        "Ended incidents, by how they ended; counted by the leader.",
    ),
    Metric::histogram(
        "selfheal_incident_detect_seconds",
        &[],
        "From the start of the alert, as its sender says, to the incident; the leader. Its mean is the MTTD.",
    ),
    Metric::histogram(
        "selfheal_incident_acknowledge_seconds",
        &[],
        "From the incident to the first fix, or to the acknowledgement; the leader. Its mean is the MTTA.",
    ),
    Metric::histogram(
        "selfheal_incident_resolve_seconds",
        &["status"],
        "From the incident to its end; the leader. Its mean is the MTTR.",
    ),
    Metric::counter(
        "selfheal_fixes_started_total",
        &["runbook"],
        "Attempts that all guards allowed; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_fixes_ended_total",
        &["runbook", "outcome"],
        "Attempts that ended: healed (proven), failed, regressed (a neighbour became unhealthy), abandoned (a person closed it); counted by the leader.",
    ),
    Metric::counter(
        "selfheal_false_heals_total",
        &["runbook"],
        "Incidents that came again within 10 minutes of a proven fix, by its runbook; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_escalations_total",
        &["reason"],
        "Incidents that were handed to a person; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_guard_holds_total",
        &["guard"],
        "Plans that a guard has held back for a time; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_guard_refusals_total",
        &["guard"],
        "Plans that a guard has refused; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_approvals_total",
        &["outcome"],
        "Approvals: requested, given (others are wanted, too), approved, rejected, expired; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_breaker_trips_total",
        &[],
        "How often the circuit breaker tripped; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_suppressions_total",
        &["by"],
        "Events that were suppressed: by silence, maintenance, inhibition or flapping.",
    ),
    Metric::counter(
        "selfheal_notices_total",
        &["outcome"],
        "Notices that were reported: sent or failed; counted by the leader.",
    ),
    Metric::counter(
        "selfheal_decision_faults_total",
        &[],
        "Decisions that did not fit the state: a defect, please report it; counted by the leader.",
    ),
];
