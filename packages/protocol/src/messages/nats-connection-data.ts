import { type Static, Type } from 'typebox';

/**
 * How to connect to NATS, as nodes hand it to nexlets and nexlets to workloads. All 11 keys are required on the wire;
 * the `tls_*` texts are paths of files on the receiver's side. Source: Nex 0.4, `models/api_shared.go`.
 */
export const NatsConnectionDataSchema = Type.Object({
  conn_name: Type.String({ description: 'Name of the connection' }),
  nats_servers: Type.Array(Type.String(), { description: 'URLs of servers' }),
  nats_user_jwt: Type.String({ description: 'JWT of the user' }),
  nats_user_name: Type.String({ description: 'Name of the user' }),
  nats_user_nkey: Type.String({ description: 'Public nkey of the user' }),
  nats_user_password: Type.String({ description: 'Password' }),
  nats_user_seed: Type.String({ description: 'Seed of the user' }),
  tls_ca: Type.String({ description: 'Certificates of authorities' }),
  tls_cert: Type.String({ description: 'Certificate' }),
  tls_first: Type.Boolean({ description: 'TLS before the server says anything' }),
  tls_key: Type.String({ description: 'Key of that certificate' }),
});
export type NatsConnectionData = Static<typeof NatsConnectionDataSchema>;

/** Connection data with empty values for whatever is not given. */
export function natsConnectionData(given: Partial<NatsConnectionData>): NatsConnectionData {
  return {
    conn_name: '',
    nats_servers: [],
    nats_user_jwt: '',
    nats_user_name: '',
    nats_user_nkey: '',
    nats_user_password: '',
    nats_user_seed: '',
    tls_ca: '',
    tls_cert: '',
    tls_first: false,
    tls_key: '',
    ...given,
  };
}
