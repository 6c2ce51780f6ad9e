//! `docker.*` against a real engine.

#[cfg(test)]
#[path = "fixer/kit.rs"]
#[allow(dead_code, reason = "each test binary takes its part")]
mod kit;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use domain::{action::Action, check::Check, wire::FixOutcome};

    use crate::kit::{Place, act, carry_out, order, step, until};

    /// A container that is removed with the test.
    struct Container(String);

    impl Container {
        /// Runs an image that holds nothing but one static program, made on the spot.
        fn run(name: &str, more: &[&str]) -> Self {
            let name = format!("selfheal-fixer-{}-{name}", std::process::id());
            let image = image();
            let mut arguments = vec!["run", "-d", "--stop-signal", "KILL", "--name", &name];
            arguments.extend(more);
            arguments.extend([image.as_str(), "sleep", "1000"]);
            docker(&arguments);
            Self(name)
        }

        fn state(&self, field: &str) -> String {
            docker(&["inspect", "-f", &format!("{{{{.State.{field}}}}}"), &self.0])
        }

        fn is_running(&self) -> bool {
            self.state("Running") == "true"
        }
    }

    impl Drop for Container {
        fn drop(&mut self) {
            drop(Command::new("docker").args(["rm", "-f", &self.0]).output());
        }
    }

    fn docker(arguments: &[&str]) -> String {
        let output = Command::new("docker").args(arguments).output();
        let output = output.expect("the docker client; install it, or run `cargo xtask test` for the tests that need no engine");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Returns the image of the tests: the one that compose and CI use too.
    fn image() -> String {
        option_env!("SELFHEAL_TEST_IMAGE").unwrap_or("debian:bookworm-slim").to_owned()
    }

    fn named(container: &Container) -> String {
        container.0.clone()
    }

    #[tokio::test]
    async fn a_killed_container_is_started_by_a_restart() {
        let (place, container) = (Place::new(), Container::run("restart", &[]));
        docker(&["kill", &container.0]);
        until("it is dead", || !container.is_running()).await;
        let restart = Action::DockerRestart { container: named(&container) };
        let report = act(&place.tools(), restart).await.unwrap();
        assert!(report.summary.contains(&container.0), "{}", report.summary);
        assert!(container.is_running());
    }

    #[tokio::test]
    async fn a_running_container_is_replaced_by_a_restart() {
        let (place, container) = (Place::new(), Container::run("again", &[]));
        let before = container.state("Pid");
        let restart = Action::DockerRestart { container: named(&container) };
        act(&place.tools(), restart).await.unwrap();
        assert_ne!(container.state("Pid"), before);
    }

    /// Goal: a container that somebody has started since it was found dead is not restarted.
    #[tokio::test]
    async fn a_container_that_somebody_else_started_meanwhile_is_left_alone() {
        let (place, container) = (Place::new(), Container::run("theirs", &[]));
        let restart = || Action::DockerRestart { container: named(&container) };
        for (cause, is_left) in [("container_exited", true), ("container_unhealthy", false)] {
            let mut order = order(vec![step("restart", restart())]);
            let mut parts = domain::plan::Parts::from(order.plan);
            parts.cause = cause.to_owned();
            order.plan = domain::plan::Plan::new(parts).unwrap();
            order.plan_hash = order.plan.hash();
            let before = container.state("Pid");
            let ended = carry_out(&place.tools(), &order).await;
            let is_refused = matches!(ended.outcome, FixOutcome::Refused { .. });
            assert_eq!(is_refused, is_left, "{cause}: {ended:?}");
            assert_eq!(container.state("Pid") == before, is_left, "{cause}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn stop_and_start_may_be_done_twice() {
        let (place, container) = (Place::new(), Container::run("twice", &[]));
        let tools = place.tools();
        for running in [false, false, true, true] {
            let action = if running {
                Action::DockerStart { container: named(&container) }
            } else {
                Action::DockerStop { container: named(&container) }
            };
            act(&tools, action).await.unwrap();
            assert_eq!(container.is_running(), running);
        }
    }

    #[tokio::test]
    async fn of_a_compose_service_the_dead_container_is_started() {
        let project = format!("p{}", std::process::id());
        let labels = [
            "--label",
            &format!("com.docker.compose.project={project}"),
            "--label",
            "com.docker.compose.service=db",
        ];
        let (one, two) = (Container::run("one", &labels), Container::run("two", &labels));
        docker(&["kill", &two.0]);
        until("it is dead", || !two.is_running()).await;
        let before = one.state("Pid");
        let place = Place::new();
        let restart = Action::DockerRestart { container: format!("{project}/db") };
        let report = act(&place.tools(), restart).await.unwrap();
        assert_eq!(report.summary, format!("restarted container {}", two.0));
        assert!(two.is_running());
        assert_eq!(one.state("Pid"), before, "the living one was left alone");
    }

    #[tokio::test]
    async fn a_container_that_is_not_there_is_told() {
        let start = Action::DockerStart { container: "no-such-container".to_owned() };
        let told = act(&Place::new().tools(), start).await.unwrap_err();
        assert!(told.contains("there is no container `no-such-container`"), "{told}");
        let start = Action::DockerStart { container: "nobody/nothing".to_owned() };
        let told = act(&Place::new().tools(), start).await.unwrap_err();
        assert!(told.contains("compose project `nobody`"), "{told}");
    }

    #[tokio::test]
    async fn a_docker_pre_check_looks_at_the_container() {
        let (place, container) = (Place::new(), Container::run("check", &[]));
        let stop = || domain::plan::Step {
            pre_check: Some(Check::of_container()),
            ..step("stop", Action::DockerStop { container: named(&container) })
        };
        let tools = place.tools();
        let ended = carry_out(&tools, &order(vec![stop()])).await;
        assert_eq!(ended.outcome, FixOutcome::Succeeded);
        let ended = carry_out(&tools, &order(vec![stop()])).await;
        assert!(matches!(ended.outcome, FixOutcome::Failed { .. }), "{ended:?}");
    }
}
