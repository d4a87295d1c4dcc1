package togetherchat

import (
	"context"

	togetherchatv1 "github.com/togetherchat/togetherchat/clients/go/togetherchat/v1"
)

// QueryUsage returns one page of a report of usage and cost: the calls of a period, summed by the
// dimensions of the request. The key sees its own tenant, or all tenants if it has the scope `admin`.
// Where the service records no usage, the error's Code is Unimplemented.
func (c *Client) QueryUsage(
	ctx context.Context, request *togetherchatv1.QueryUsageRequest, options ...CallOption,
) (*togetherchatv1.QueryUsageResponse, error) {
	return unary(ctx, c.usage.QueryUsage, request, options)
}

// ListQuotas returns what is used, reserved and left of the limits of tenants; without tenants in the
// request, of all that the key may see.
func (c *Client) ListQuotas(
	ctx context.Context, request *togetherchatv1.ListQuotasRequest, options ...CallOption,
) (*togetherchatv1.ListQuotasResponse, error) {
	return unary(ctx, c.usage.ListQuotas, request, options)
}

// ResetQuota forgets the requests and tokens per minute that a tenant has used, and returns the limits
// after that. The key needs the scope `admin`.
func (c *Client) ResetQuota(
	ctx context.Context, request *togetherchatv1.ResetQuotaRequest, options ...CallOption,
) (*togetherchatv1.ResetQuotaResponse, error) {
	return unary(ctx, c.usage.ResetQuota, request, options)
}
