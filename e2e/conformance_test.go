//go:build e2e

package e2e

import "testing"

// The OCI conformance program, without what Distribution itself does not do:
// SHA-512, referrers, and layers at foreign addresses.
func TestConformance(t *testing.T) {
	p := serve(t, "--data", t.TempDir())
	must(t, []string{
		"OCI_REGISTRY=" + p.addr, "OCI_TLS=disabled", "OCI_REPO1=conformance/one", "OCI_REPO2=conformance/two",
		"OCI_VERSION=1.1", "OCI_RESULTS_DIR=" + t.TempDir(),
		"OCI_DATA_SHA512=false", "OCI_API_REFERRER=false", "OCI_DATA_SUBJECT=false", "OCI_DATA_SUBJECT_LIST=false",
		"OCI_DATA_SUBJECT_MISSING=false", "OCI_DATA_NONDISTRIBUTABLE=false", "OCI_API_BLOBS_UPLOAD_CANCEL=true",
	}, "conformance")
}
