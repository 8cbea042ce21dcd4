// Package e2e runs real clients against the real binary: Docker, skopeo, crane,
// oras, regctl, the OCI conformance program, and what can go wrong around a
// registry: killed processes, lost nodes, full disks. It has no code of its own
// beside the tests, which need the build tag e2e, root, and Docker and skopeo
// on the PATH:
//
//	go test -tags e2e ./e2e
//
// A test that cannot run here fails. TestChaos is small by default; this is its
// full size, with a plan of faults that a seed repeats:
//
//	E2E_CHAOS=10m go test -tags e2e -timeout 30m -v -run TestChaos ./e2e
package e2e
