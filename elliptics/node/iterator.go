package node

type iterators struct{}

func (*iterators) cancelAll() {}
