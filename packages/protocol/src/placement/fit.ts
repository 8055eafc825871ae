import type { KeyPair } from '@nats-io/nkeys';
import { describeIssues, parseRunRequestSchema, type RunRequestSchema } from '../messages/run-request.ts';
import { createXKey, sealEnvironment } from '../messages/sealed-environment.ts';
import type { Bid } from '../messages/auction-messages.ts';
import { ProtocolError } from '../protocol-error.ts';
import type { WorkloadToPlace } from './workload-to-place.ts';

/** Nodes of one kind bid with a few versions of one schema; each may take a second to evaluate. */
const MAX_SCHEMAS = 16;

/** A bid that can run the workload, and how to write the run request for it. */
export interface Offer {
  readonly bid: Bid;
  /**
   * The run request as the nexlet that bid wants it.
   *
   * @throws {ProtocolError} NEX_SEAL_INVALID when the bid's key is none
   */
  readonly runRequest: () => unknown;
}

/**
 * The bids that can run a workload: by their lifecycles and their schema, not from an avoided node, and able to read a
 * sealed environment where there is one.
 *
 * @throws {ProtocolError} NEX_NO_BIDS, NEX_REQUEST_INVALID, NEX_ENVIRONMENT_IN_CLEAR: why none of them can
 */
export function fittingOffers(bids: readonly Bid[], workload: WorkloadToPlace): Offer[] {
  const { name, type, lifecycle, avoid = [] } = workload;
  const wanted = bids.filter(({ node_id: nodeId }) => nodeId === undefined || !avoid.includes(nodeId));
  if (wanted.length === 0) {
    throw new ProtocolError(
      'NEX_NO_BIDS',
      `No node can run a workload of type "${type}": ${bids.length} bid, all of them to be avoided`,
    );
  }
  const able = wanted.filter((bid) => bid.supported_lifecycles.includes(lifecycle));
  if (able.length === 0) {
    const offered = [...new Set(wanted.flatMap((bid) => bid.supported_lifecycles))].join(', ') || 'none';
    throw new ProtocolError(
      'NEX_NO_BIDS',
      `No node can run a workload of type "${type}" as ${lifecycle}: ${wanted.length} bid, for the lifecycles ${offered}`,
    );
  }
  const forms = new RequestForms(workload);
  const offers = able.flatMap((bid) => forms.offer(bid) ?? []);
  if (offers.length > 0) return forms.sealedOnly(offers);
  if (forms.needsClear) {
    const message = `Cannot start workload "${name}": the nexlets of type "${type}" that bid cannot open a sealed environment`;
    throw new ProtocolError('NEX_ENVIRONMENT_IN_CLEAR', message, {
      hint: 'Allow the environment to be sent in clear, or leave it out',
    });
  }
  throw new ProtocolError(
    'NEX_REQUEST_INVALID',
    `Cannot start workload "${name}": its run request is not valid, ${forms.complaint}`,
  );
}

/** The forms that one run request takes for the nexlets that bid. Many bids have the same schema: each is read once. */
class RequestForms {
  needsClear = false;
  complaint = 'no schema accepts it';
  readonly #workload: WorkloadToPlace;
  #sender: KeyPair | undefined;
  readonly #verdicts = new Map<string, Verdict>();
  readonly #sealed = new Set<Offer>();

  constructor(workload: WorkloadToPlace) {
    this.#workload = workload;
    this.#sender = workload.sender;
  }

  /** Undefined when the bid's schema does not take the run request; then `needsClear` or `complaint` say why. */
  offer(bid: Bid): Offer | undefined {
    const verdict = this.#verdict(bid.start_request_schema);
    if (verdict.form === 'secret') this.needsClear = true;
    if (verdict.form === 'invalid') this.complaint = verdict.complaint;
    if (verdict.form === 'secret' || verdict.form === 'invalid') return undefined;
    const offer = { bid, runRequest: () => this.#write(verdict.form === 'sealed' ? bid.xkey : undefined) };
    if (verdict.form === 'sealed') this.#sealed.add(offer);
    return offer;
  }

  /** Without the offers that would get the environment in clear, where there are better ones. */
  sealedOnly(offers: Offer[]): Offer[] {
    return this.#sealed.size === 0 ? offers : offers.filter((offer) => this.#sealed.has(offer));
  }

  #verdict(schema: string): Verdict {
    const known = this.#verdicts.get(schema);
    if (known !== undefined) return known;
    if (this.#verdicts.size === MAX_SCHEMAS) {
      return { form: 'invalid', complaint: `there are more than ${MAX_SCHEMAS} different schemas` };
    }
    const verdict = this.#judge(schema);
    this.#verdicts.set(schema, verdict);
    return verdict;
  }

  #judge(text: string): Verdict {
    try {
      const schema = parseRunRequestSchema(text);
      const form = this.#formFor(schema);
      if (form === 'secret') return { form };
      // Whether a sealed environment is accepted does not depend on for whom it is sealed.
      const example = this.#write(form === 'sealed' ? this.#key().getPublicKey() : undefined);
      const issues = schema.check(example);
      return issues.length === 0 ? { form } : { form: 'invalid', complaint: describeIssues(issues) };
    } catch (error) {
      if (error instanceof ProtocolError) return { form: 'invalid', complaint: error.message };
      throw error;
    }
  }

  #key(): KeyPair {
    return (this.#sender ??= createXKey());
  }

  #formFor(schema: RunRequestSchema): 'plain' | 'sealed' | 'secret' {
    const { environment = {}, allowClearEnvironment = false } = this.#workload;
    if (Object.keys(environment).length === 0) return 'plain';
    if (schema.properties.has('encrypted_environment')) return 'sealed';
    return allowClearEnvironment ? 'plain' : 'secret';
  }

  #write(recipient: string | undefined): unknown {
    const { name, runRequest, environment = {} } = this.#workload;
    if (Object.keys(environment).length === 0) return runRequest;
    if (typeof runRequest !== 'object' || runRequest === null || Array.isArray(runRequest)) {
      const message = `Cannot give workload "${name}" an environment: its run request is no object`;
      throw new ProtocolError('NEX_REQUEST_INVALID', message);
    }
    if (recipient === undefined) {
      const given: unknown = 'environment' in runRequest ? runRequest.environment : {};
      return { ...runRequest, environment: { ...(given as object), ...environment } };
    }
    const sealed = sealEnvironment(environment, { sender: this.#key(), recipient });
    return { ...runRequest, encrypted_environment: sealed };
  }
}

type Verdict =
  | { readonly form: 'plain' | 'sealed' }
  /** It would have to be sent in clear, which is not allowed. */
  | { readonly form: 'secret' }
  | { readonly form: 'invalid'; readonly complaint: string };
