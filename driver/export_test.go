package driver

// What the tests of the configuration look at beyond the package's API.
var (
	PublicKeys      = publicKeys
	OldNames        = oldNames
	Unset           = unset
	NewClusterStore = newClusterStore
)

// Order is the order in which s asks groups for content.
func (s *clusterStore) Order() []uint32 { return s.order.order(0) }
